"""How are many answers kept on disk and read back?"""
