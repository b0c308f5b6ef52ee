"""Operations over files and stores, as coroutines for both worlds; no SQLAlchemy, no HTTP."""
