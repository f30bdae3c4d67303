//! What a server of files is asked, and answers.

pub mod nginx;
pub mod requests;
pub mod response;
