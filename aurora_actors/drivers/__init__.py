"""The only imports of psycopg and mysql.connector: guard, abort, swap, and the class that the application holds."""
