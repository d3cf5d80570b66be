//! Private RabbitMQ and MariaDB servers for the tests.
