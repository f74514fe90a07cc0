"""Django's backend for MySQL and MariaDB, with PyMySQL in the place of mysqlclient: as ENGINE."""
