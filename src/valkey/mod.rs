//! Clients of valkey-server and Sentinel, their replies, and the rendering of their configuration.
