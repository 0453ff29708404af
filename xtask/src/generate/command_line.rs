//! The page of the command line: what `--help` of the binary says, for it and each of its commands.

use std::{fmt::Write, path::Path, process::Command};

use crate::Result;

pub fn page(dure: &Path) -> Result<String> {
    let mut page =
        String::from("# Command line\n\nMade by `cargo xtask gen` from `dure --help` and the help of each command.\n");
    describe(dure, &[], &mut page)?;
    Ok(page)
}

fn describe(dure: &Path, command: &[String], page: &mut String) -> Result<()> {
    // From nothing, so that neither this terminal's width nor anybody's settings show in it.
    let help = Command::new(dure).args(command).arg("--help").env_clear().env("COLUMNS", "100").output()?;
    let title = ["dure"].into_iter().chain(command.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    if !help.status.success() {
        return Err(format!("`{title} --help` failed: {}", String::from_utf8_lossy(&help.stderr)).into());
    }
    let help = String::from_utf8(help.stdout)?;
    let text: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    let level = "#".repeat(command.len() + 2);
    writeln!(page, "\n{level} {title}\n\n```\n{}\n```", text.join("\n"))?;
    for name in commands(&help) {
        let mut command = command.to_vec();
        command.push(name);
        describe(dure, &command, page)?;
    }
    Ok(())
}

/// The names under `Commands:`; each begins a line indented by two, its description may go on below.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  ").filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase())))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_their_wrapped_descriptions_are_not() {
        let help = "Does things\n\nUsage: dure <COMMAND>\n\nCommands:\n  up     starts\n         and goes on\n  down   ends\n  help   Print this\n\n\
                    Options:\n  quiet\n";
        assert_eq!(commands(help), ["up", "down"]);
    }
}
