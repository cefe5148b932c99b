"""Objects and files on their way: what is to be carried where, and the carrying."""
