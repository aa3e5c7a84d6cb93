//! Who may talk to whom: keys, and the files that say which are known.
//!
//! As with ssh, every client and every volunteer has a key of its own. A volunteer serves the keys in its
//! [`authorized`] file, and those that a farm key vouches for ([`certificate`]); a client talks to the
//! volunteers in its [`known`] file. Both prove their keys in a TLS 1.3 handshake ([`tls`]) that knows
//! neither names nor dates nor authorities. An [`invitation`] is how two that do not know each other yet
//! meet; it and certificates are presented in an [`introduction`], the first words inside of TLS.
//!
//! All of it is pure but for [`files`], which keeps keys in a folder that it is given, and for the random
//! numbers that keys are made of.

pub mod authorized;
pub mod certificate;
pub mod files;
pub mod introduction;
pub mod invitation;
pub mod key;
pub mod known;
pub mod tls;
