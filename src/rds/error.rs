// SPDX-License-Identifier: MPL-2.0

//! Errors of calls to AWS about a cluster, and what can be done about them.

use std::fmt;

/// Short for results of this module tree.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The meaning of a failure for the caller. All code decides by this instead of AWS's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The cluster, instance or parameter group does not exist.
    NotFound,
    /// A parameter group of that name exists already.
    AlreadyExists,
    /// The object is busy (`InvalidDBClusterStateFault` and its like): the same call succeeds later.
    InvalidState,
    /// AWS throttled requests or failed, and still did so after the client's own retries.
    Throttled,
    /// No credentials, wrong credentials, or a policy that does not allow the call.
    Denied,
    /// The endpoint was not reached, or its answer was not understood.
    Network,
    /// AWS refused the request itself: each try gives the same result.
    Rejected,
    /// The request cannot be done on this cluster. This was found before anything was changed.
    Refused,
    /// The deadline passed.
    Timeout,
    /// The operation was cancelled from outside.
    Cancelled,
    /// The server does not run with the values of its parameters.
    Unverified,
}

/// A failure, in the shape "doing what: cause (CODE, request ID). Hint".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What was being done, as in `rebooting DB instance "shop-1"`.
    pub doing: String,
    /// Its meaning for the caller.
    pub kind: Kind,
    /// The AWS error code, if AWS answered.
    pub code: Option<Box<str>>,
    /// The cause in words, from AWS or our own.
    pub message: String,
    /// The AWS request id, for support cases.
    pub request_id: Option<Box<str>>,
    /// What to do about it.
    pub hint: Option<Box<str>>,
    /// The cluster parameter that the error is about: `parameters["name"]` in a configuration.
    pub parameter: Option<Box<str>>,
}

impl Error {
    /// A failure that AWS did not report itself.
    pub fn new(kind: Kind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            doing: doing.into(),
            kind,
            code: None,
            message: message.into(),
            request_id: None,
            hint: None,
            parameter: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into());
        self
    }

    /// Adds the cluster parameter that it is about.
    #[must_use]
    pub fn about_parameter(mut self, name: impl Into<String>) -> Self {
        self.parameter = Some(name.into().into());
        self
    }

    /// Whether AWS has not answered the request: it was not reached, was too busy, or the time was over.
    #[must_use]
    pub fn is_unreached(&self) -> bool {
        matches!(self.kind, Kind::Network | Kind::Throttled | Kind::Timeout)
    }

    /// Whether the same call may succeed later by itself.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::InvalidState | Kind::Throttled)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.message.trim_end_matches('.'))?;
        match (&self.code, &self.request_id) {
            (Some(code), Some(id)) => write!(f, " ({code}, request {id})")?,
            (Some(code), None) => write!(f, " ({code})")?,
            (None, Some(id)) => write!(f, " (request {id})")?,
            (None, None) => {}
        }
        match &self.hint {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The meaning of an RDS error code. The codes are those of the API reference ("Errors" of each action and "Common
/// errors").
#[must_use]
pub(super) fn classify(code: &str) -> Kind {
    match code {
        "DBClusterNotFoundFault"
        | "DBInstanceNotFound"
        | "DBParameterGroupNotFound"
        | "DBClusterParameterGroupNotFound" => Kind::NotFound,
        "DBParameterGroupAlreadyExists" => Kind::AlreadyExists,
        "InvalidDBClusterStateFault" | "InvalidDBInstanceState" | "InvalidDBParameterGroupState" => Kind::InvalidState,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "RequestThrottled"
        | "SlowDown"
        | "InternalFailure"
        | "InternalError"
        | "ServiceUnavailable" => Kind::Throttled,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "AuthFailure"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "OptInRequired" => Kind::Denied,
        _ => Kind::Rejected,
    }
}

/// What to do about an error of this code, if the message does not say it.
#[must_use]
pub(super) fn advice(kind: Kind, code: &str) -> Option<&'static str> {
    let advice = match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "The credentials have expired: renew them and apply again, which goes on from here"
        }
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "NotAuthorized" => {
            "Allow it in the IAM policy: the guide \"Enable logical replication on Aurora\" has a policy with \
             everything that is needed"
        }
        "DBClusterNotFoundFault" => "Check the identifier, and the region and account that the aws block leads to",
        "DBParameterGroupAlreadyExists" => "To use it, set parameter_group_name to it; otherwise set another name",
        "DBParameterGroupQuotaExceeded" => {
            "Delete unused groups, ask AWS for a higher quota, or set parameter_group_name to an existing group"
        }
        "KMSKeyNotAccessibleFault" => "Give RDS access to the KMS key again, then apply again",
        "StorageQuotaExceeded" => "Ask AWS for a higher storage quota, then apply again",
        _ => match kind {
            Kind::Denied => "Check the credentials of the aws block",
            Kind::Network => "Check the network, and region and endpoint_url of the aws block",
            _ => return None,
        },
    };
    Some(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_printed_in_one_sentence() {
        let mut error = Error::new(Kind::NotFound, "reading DB cluster \"shop\"", "DBCluster shop not found.");
        error.code = Some("DBClusterNotFoundFault".into());
        assert_eq!(
            error.clone().hint("Check the region").to_string(),
            "reading DB cluster \"shop\": DBCluster shop not found (DBClusterNotFoundFault). Check the region"
        );
        error.request_id = Some("r-1".into());
        assert!(error.to_string().ends_with("(DBClusterNotFoundFault, request r-1)"));
    }

    #[test]
    fn codes_are_classified() {
        for (code, kind) in [
            ("DBClusterNotFoundFault", Kind::NotFound),
            ("DBParameterGroupNotFound", Kind::NotFound),
            ("DBParameterGroupAlreadyExists", Kind::AlreadyExists),
            ("InvalidDBInstanceState", Kind::InvalidState),
            ("InvalidDBParameterGroupState", Kind::InvalidState),
            ("Throttling", Kind::Throttled),
            ("AccessDenied", Kind::Denied),
            ("InvalidParameterCombination", Kind::Rejected),
            ("DBParameterGroupQuotaExceeded", Kind::Rejected),
        ] {
            assert_eq!(classify(code), kind, "{code}");
        }
    }

    #[test]
    fn only_states_and_throttling_are_retried() {
        for (kind, retryable) in
            [(Kind::InvalidState, true), (Kind::Throttled, true), (Kind::Denied, false), (Kind::Rejected, false)]
        {
            assert_eq!(Error::new(kind, "a", "b").is_retryable(), retryable);
        }
    }
}
