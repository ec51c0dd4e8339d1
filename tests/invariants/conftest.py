"""What must never change, whatever else does: which tokens are trained, the steps that training takes, the bytes that are made, and which
package may load what. The tests share what those of the runtime share."""

from tests.runtime.conftest import *  # noqa: F403  (fixtures)
