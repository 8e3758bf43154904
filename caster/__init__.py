"""Bytes to people: formats and protocols (`caster.codec`, pure) and the asyncio service around them."""
