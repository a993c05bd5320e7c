//! Text of the configuration files of server and Sentinel, and of their files of users.
