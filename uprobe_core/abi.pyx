"""The enumerations of abi.h as Python enums, and the sizes of its structs."""

from uprobe_core.abi cimport effects_t, insn_t, plan_t, regs_t

SIZES = {
    "insn_t": sizeof(insn_t),
    "effects_t": sizeof(effects_t),
    "regs_t": sizeof(regs_t),
    "plan_t": sizeof(plan_t),
}

# Constants of the plan, for Python. (A module cannot assign to the names of its own header's constants.)
globals().update(PLAN_ONE_STOP=PLAN_ONE_STOP, SLOT_SIZE=SLOT_SIZE, OPERAND_NONE=OPERAND_NONE, REG_NONE=REG_NONE)
# The same, of hit code.
globals().update(
    HIT_FIELDS_MAX=HIT_FIELDS_MAX, HIT_STACK_MAX=HIT_STACK_MAX, PREDICATE_DEPTH_MAX=PREDICATE_DEPTH_MAX,
    PREDICATE_OPS_MAX=PREDICATE_OPS_MAX, RECORD_UNREAD=RECORD_UNREAD, RING_HEADER=RING_HEADER, RING_STEP=RING_STEP,
)
