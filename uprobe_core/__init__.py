"""The native core of uprobes; its users are the modules of the uprobes package."""
