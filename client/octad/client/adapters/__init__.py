"""octad behind the interfaces of other libraries, each imported only by those who use it."""
