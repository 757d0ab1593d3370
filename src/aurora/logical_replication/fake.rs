//! A scripted cluster in place of AWS.
