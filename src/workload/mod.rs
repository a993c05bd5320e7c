//! How the local processes are run.
