"""How does any request trace become a table of lengths and arrivals?"""
