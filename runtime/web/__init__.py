"""python -m runtime.web: talks to a model in the browser, on Streamlit (extra: web).

address.py says where it listens, gate.py who gets in, models.py what answers, answering.py how answers are made beside the page,
conversation.py what was said. page.py is the script that Streamlit runs for each visitor.
"""
