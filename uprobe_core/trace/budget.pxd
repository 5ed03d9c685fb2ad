"""A limit to what the hits of a target may cost it.

Time spent in stops is paid from an account that fills at `budget` seconds a second. When it is empty the hottest site is
disarmed for a while, each time for twice as long; it is armed again by the bell. What it misses meanwhile cannot be seen:
it is counted as lost at the rate that it had, which is less than it really was.
"""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.trace.engine cimport engine_t

# 0: no limit.
cdef void budget_set(engine_t *engine, double budget) noexcept nogil

# A stop at `site` was served from engine.hit_began_ns until now. The site may be disarmed by this.
cdef void budget_pay(engine_t *engine, uint32_t site) noexcept nogil

# Arms sites again whose time is up.
cdef void budget_serve(engine_t *engine, uint64_t now_ns) noexcept nogil

# When the next one is; 0: none is disarmed.
cdef uint64_t budget_due(const engine_t *engine) noexcept nogil

# The engine is a copy of another: what is disarmed there for a while is armed here.
cdef void budget_inherit(engine_t *engine, const engine_t *parent) noexcept nogil
