//! Messages as they are stored and as nodes send them to each other: a version, then each message's parts.
