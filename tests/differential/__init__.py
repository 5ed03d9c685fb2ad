"""Our decoder against others: the processor, iced-x86 and Zydis."""
