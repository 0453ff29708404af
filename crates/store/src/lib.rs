//! What is remembered: SQLite or PostgreSQL, one file of SQL per resource; blobs on disk.
