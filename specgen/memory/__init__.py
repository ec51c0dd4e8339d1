"""What a training step needs of a device's memory, worked out from the plan and the model's sizes, without torch."""

from specgen.memory.plan import PARTS, MemoryPlan, memory_plan

__all__ = ["PARTS", "MemoryPlan", "memory_plan"]
