"""The pictures of papers, in collections; `paper:<key>` is the source of one."""
