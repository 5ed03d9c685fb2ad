from enum import IntEnum

class site_state(IntEnum):
    SITE_LIVE = 1
    SITE_ARMED = 2
    SITE_CALLBACK = 4
    SITE_STEP = 8
    SITE_TAPPED = 32
