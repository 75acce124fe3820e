"""Flows: ``async def`` written once, run by threads and by asyncio. No I/O of their own."""
