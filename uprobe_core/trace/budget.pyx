"""The budget: see budget.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from uprobe_core.linux.asleep cimport monotonic_ns
from uprobe_core.linux.doorbell cimport bell_set_alarm
from uprobe_core.patch.sites cimport SITE_ARMED, SITE_LIVE, site_at, site_t
from uprobe_core.patch.text cimport text_arm, text_disarm
from uprobe_core.trace.engine cimport HEAT_COUNT, THROTTLE_MAX, heat_t, throttle_t

cdef enum:
    BURST_NS = 50000000     # what the account holds at most: the budget of so long a time
    REST_NS = 20000000      # the first time that a site is disarmed for
    REST_MAX_NS = 1000000000
    CALM_NS = 2000000000    # without a throttle for so long, the rest is short again
    # The way to the tracer and back cannot be told from what the task does between two stops: all of that is taken for it,
    # up to what it may be across two processors. So the cost is rather estimated too high.
    WAY_MAX_NS = 30000


cdef void budget_set(engine_t *engine, double budget) noexcept nogil:
    engine.budget = budget
    engine.account_ns = <int64_t>(BURST_NS * budget)
    engine.account_at_ns = monotonic_ns()
    memset(engine.heat, 0, sizeof(engine.heat))


cdef throttle_t *throttle_of(engine_t *engine, uint32_t site) noexcept nogil:
    """The throttle of a site, new if need be; of very many, that of another site that is armed is taken over."""
    cdef uint32_t i
    cdef throttle_t *place = NULL
    for i in range(engine.throttle_count):
        if engine.throttles[i].site == site:
            return &engine.throttles[i]
        if engine.throttles[i].until_ns == 0:
            place = &engine.throttles[i]
    if engine.throttle_count < THROTTLE_MAX:
        place = &engine.throttles[engine.throttle_count]
        engine.throttle_count += 1
    if place != NULL:
        memset(place, 0, sizeof(throttle_t))
        place.site = site
    return place


cdef heat_t *heat_hottest(engine_t *engine) noexcept nogil:
    cdef heat_t *hottest = &engine.heat[0]
    cdef int i
    for i in range(1, HEAT_COUNT):
        if engine.heat[i].spent_ns > hottest.spent_ns:
            hottest = &engine.heat[i]
    return hottest


cdef void site_throttle(engine_t *engine, heat_t *heat, uint64_t now_ns) noexcept nogil:
    cdef throttle_t *throttle = throttle_of(engine, heat.site)
    cdef size_t done
    cdef uint64_t span = max(<uint64_t>1000, now_ns - heat.since_ns)
    if throttle == NULL or text_disarm(&engine.text, &heat.site, 1, &done) != 0 or done == 0:
        return
    if throttle.rest_ns == 0 or now_ns - throttle.since_ns > CALM_NS + throttle.rest_ns:
        throttle.rest_ns = REST_NS
    else:
        throttle.rest_ns = min(throttle.rest_ns * 2, <uint64_t>REST_MAX_NS)
    throttle.rate = <double>heat.hits / <double>span
    throttle.since_ns = now_ns
    throttle.until_ns = now_ns + throttle.rest_ns
    throttle.times += 1
    if engine.family.alarm_ns == 0 or throttle.until_ns < engine.family.alarm_ns:
        engine.family.alarm_ns = throttle.until_ns
        bell_set_alarm(&engine.family.twin.bell, throttle.until_ns)


cdef void budget_pay(engine_t *engine, uint32_t site) noexcept nogil:
    cdef uint64_t now_ns = monotonic_ns()
    cdef uint64_t began_ns = engine.hit_began_ns
    cdef int64_t cost = <int64_t>(now_ns - began_ns + min(began_ns - engine.account_at_ns, <uint64_t>WAY_MAX_NS))
    cdef heat_t *heat = &engine.heat[site % HEAT_COUNT]
    engine.account_ns += <int64_t>(<double>(now_ns - engine.account_at_ns) * engine.budget) - cost
    engine.account_at_ns = now_ns
    engine.account_ns = min(engine.account_ns, <int64_t>(BURST_NS * engine.budget))
    if heat.site != site or heat.hits == 0 or now_ns - heat.since_ns > BURST_NS:
        heat.site = site
        heat.hits = heat.spent_ns = 0
        heat.since_ns = began_ns
    heat.hits += 1
    heat.spent_ns += <uint64_t>cost
    if engine.account_ns < 0:
        heat = heat_hottest(engine)
        site_throttle(engine, heat, now_ns)
        memset(engine.heat, 0, sizeof(engine.heat))
        engine.account_ns = 0


cdef void throttle_end(engine_t *engine, throttle_t *throttle, uint64_t now_ns) noexcept nogil:
    cdef site_t *site = site_at(&engine.text.sites, throttle.site)
    cdef size_t done
    cdef uint64_t off_ns = now_ns - throttle.since_ns
    throttle.until_ns = 0
    throttle.off_ns += off_ns
    throttle.lost += <uint64_t>(throttle.rate * <double>off_ns)
    throttle.since_ns = now_ns
    if site.state & SITE_LIVE and site.armers and not site.state & SITE_ARMED:
        text_arm(&engine.text, &throttle.site, 1, &done)


cdef void budget_serve(engine_t *engine, uint64_t now_ns) noexcept nogil:
    cdef uint32_t i
    for i in range(engine.throttle_count):
        if engine.throttles[i].until_ns and engine.throttles[i].until_ns <= now_ns:
            throttle_end(engine, &engine.throttles[i], now_ns)


cdef uint64_t budget_due(const engine_t *engine) noexcept nogil:
    cdef uint64_t next_ns = 0
    cdef uint32_t i
    for i in range(engine.throttle_count):
        if engine.throttles[i].until_ns and (next_ns == 0 or engine.throttles[i].until_ns < next_ns):
            next_ns = engine.throttles[i].until_ns
    return next_ns


cdef void budget_inherit(engine_t *engine, const engine_t *parent) noexcept nogil:
    cdef uint32_t i, number
    cdef size_t done
    budget_set(engine, parent.budget)
    for i in range(parent.throttle_count):
        number = parent.throttles[i].site
        if parent.throttles[i].until_ns and site_at(&engine.text.sites, number).state & SITE_LIVE:
            text_arm(&engine.text, &number, 1, &done)
