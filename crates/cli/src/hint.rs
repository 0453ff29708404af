//! What to do next: a command is only ever named from the list here, and a test proves that the command
//! line reads each of them.

use std::{fmt::Display, io::IsTerminal};

use crate::{context::Context, messages, output, output::style};

macro_rules! hints {
    ($($name:ident ( $($argument:ident),* ) = $command:literal;)*) => {
        $(pub fn $name($($argument: impl Display),*) -> String {
            $(let $argument = quote(&$argument.to_string());)*
            format!($command)
        })*

        #[cfg(test)]
        const ALL: &[&str] = &[$($command),*];
    };
}

hints! {
    apply(file) = "dure apply -f {file}";
    up() = "dure up";
    ps() = "dure ps";
    ps_all() = "dure ps --all";
    logs(run) = "dure logs {run}";
    logs_follow(run) = "dure logs -f {run}";
    show(thing) = "dure show {thing}";
    why(run) = "dure why {run}";
    stop(run) = "dure stop {run}";
    cost() = "dure cost";
    cost_by_name() = "dure cost --by name";
    predict(service) = "dure predict {service} --input FILE.csv --truth COLUMN";
    doctor() = "dure doctor";
    dataset_create() = "dure dataset create NAME FOLDER";
    dataset_download(dataset) = "dure dataset download {dataset}";
    model_register() = "dure model register FILE.onnx";
    model_download(model) = "dure model download {model}";
    model_alias(model) = "dure model alias {model} production";
    node_list() = "dure node list";
    service_delete(service) = "dure service delete {service}";
    token_create(user) = "dure token create --user {user}";
    project_add(user) = "dure project add {user}";
}

/// A word of a shell command, in quotes where it needs them.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", output::format::clean(word).replace('\'', r"'\''"))
    }
}

/// The last lines of a command; left out with --quiet, for programs, and in a pipe.
pub fn print<T: AsRef<str>>(context: &Context, commands: impl IntoIterator<Item = T>) -> std::io::Result<()> {
    if context.quiet() || context.is_for_programs() || !std::io::stdout().is_terminal() {
        return Ok(());
    }
    output::text(&render(commands))
}

/// `Next      dure ...`, the further ones below the first.
fn render<T: AsRef<str>>(commands: impl IntoIterator<Item = T>) -> String {
    use unicode_width::UnicodeWidthStr as _;

    let word = messages::next();
    let mut text = String::new();
    for (index, command) in commands.into_iter().enumerate() {
        let (shown, width) = if index == 0 { (word.as_str(), word.width()) } else { ("", 0) };
        let fill = " ".repeat(10_usize.saturating_sub(width));
        text.push_str(&format!("{0}{shown}{0:#}{fill}{1}\n", style::DIM, command.as_ref()));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_hint_is_a_command_that_exists() {
        for hint in ALL {
            let line: Vec<String> = hint
                .split(' ')
                .map(|word| if word.starts_with('{') { "abcd".to_owned() } else { word.to_owned() })
                .collect();
            if let Err(error) = Cli::try_parse_from(&line) {
                // Words in capitals are for the reader to fill in; `NAME` is no name, but the option exists.
                let lower: Vec<String> = line.iter().map(|word| word.to_lowercase()).collect();
                assert!(Cli::try_parse_from(&lower).is_ok(), "{hint}: {error}");
            }
        }
    }

    #[test]
    fn every_command_in_a_message_exists() {
        for text in messages::texts() {
            for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.starts_with("dure ")) {
                let mut command = Cli::command();
                for word in quoted.split(' ').skip(1).take_while(|word| !word.starts_with(['-', '{'])) {
                    command = command.find_subcommand(word).unwrap_or_else(|| panic!("{quoted}")).clone();
                }
                for option in quoted.split(' ').filter_map(|word| word.strip_prefix("--")) {
                    assert!(command.get_arguments().any(|argument| argument.get_long() == Some(option)), "{quoted}");
                }
            }
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(logs("7f3a"), "dure logs 7f3a");
        assert_eq!(apply("my spec.yaml"), "dure apply -f 'my spec.yaml'");
        assert_eq!(apply("it's; rm"), r"dure apply -f 'it'\''s; rm'");
        assert_eq!(quote("데이터.yaml"), "데이터.yaml");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn further_commands_stand_below_the_first() {
        let text = render(["dure cost", "dure ps"]);
        let plain = anstream::adapter::strip_str(&text).to_string();
        let columns: Vec<_> = plain.lines().map(|line| line.find("dure")).collect();
        assert!(columns.iter().all(Option::is_some) && plain.lines().count() == 2);
    }
}
