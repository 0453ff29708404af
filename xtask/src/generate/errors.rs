//! The page of error codes.

use std::fmt::Write;

use dure_types::Code;

pub fn page() -> String {
    let mut page = String::from(
        "# Error codes\n\nMade by `cargo xtask gen`. A code keeps its meaning for ever. Over HTTP an error is an RFC 9457 problem\n\
         (`application/problem+json`) whose `code` is one of these; the command line prints it at the end of the message.\n\n\
         | code | HTTP | meaning |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{}` | {} | {} |", code.as_str(), code.status(), code.title());
    }
    page
}
