//! `${parameters.NAME}` in a command. A value is data and never code: whatever it holds, the shell
//! sees one literal piece of a word. Where that cannot be had (inside backquotes, arithmetic, a
//! here-document), only values that need no quoting are put in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::short;

const OPENING: &str = "${parameters.";

/// A reference as it is written, and the name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterUse<'a> {
    pub written: &'a str,
    pub name: &'a str,
}

/// The reference at the beginning of a text, if one stands there.
fn reference(text: &str) -> Option<ParameterUse<'_>> {
    let rest = text.strip_prefix(OPENING)?;
    let end = rest.find(['}', '\n'])?;
    rest[end..].starts_with('}').then(|| ParameterUse { written: &text[..OPENING.len() + end + 1], name: &rest[..end] })
}

/// The first reference that names no parameter.
pub fn unknown<'a>(command: &'a str, parameters: &BTreeMap<String, Value>) -> Option<ParameterUse<'a>> {
    command
        .match_indices(OPENING)
        .map(|(at, _)| reference(&command[at..]).unwrap_or(ParameterUse { written: OPENING, name: "" }))
        .find(|found| !parameters.contains_key(found.name))
}

/// The command with each `${parameters.NAME}` replaced by its value, quoted for the shell.
pub fn expand_parameters(command: &str, parameters: &BTreeMap<String, Value>) -> Result<String, String> {
    let mut shell = Shell::default();
    let mut expanded = String::with_capacity(command.len());
    let mut rest = command;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with(OPENING) {
            let found = reference(rest).ok_or_else(|| format!("`{OPENING}` is not closed by `}}`"))?;
            let value =
                parameters.get(found.name).ok_or_else(|| format!("`{}` names no parameter", short(found.written)))?;
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            expanded.push_str(&shell.literal(&text).map_err(|why| format!("`{}` {why}", short(found.written)))?);
            rest = &rest[found.written.len()..];
            shell.after_word();
        } else {
            shell.step(next, &rest[next.len_utf8()..]);
            expanded.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    Ok(expanded)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Single,
    Double,
    /// Inside `$(`, where quoting begins anew.
    Command,
    /// Inside a plain `(`.
    Group,
    /// Inside `${`, backquotes, `$((` or `$'`: no quoting that holds everywhere.
    Unquotable(char),
}

/// As much of the shell's quoting as tells where a value stands.
#[derive(Default)]
struct Shell {
    places: Vec<Place>,
    escaped: bool,
    comment: bool,
    /// The last character was a `$` that may open something.
    dollar: bool,
    /// A word has begun, so that a `#` is no comment.
    word: bool,
    here_document: bool,
    less: bool,
    /// The letters of the word so far: `case` makes a `)` ambiguous.
    letters: String,
    case: bool,
}

impl Shell {
    fn step(&mut self, next: char, rest: &str) {
        if self.comment {
            self.comment = next != '\n';
            return;
        }
        if std::mem::take(&mut self.escaped) {
            self.word = true;
            return;
        }
        let dollar = std::mem::take(&mut self.dollar);
        let less = std::mem::take(&mut self.less);
        match (self.places.last().copied(), next) {
            (Some(Place::Single), '\'') => self.leave(),
            (Some(Place::Single), _) => {}
            (_, '\\') => self.escaped = true,
            (Some(Place::Unquotable('`')), '`') => self.leave(),
            (_, '`') => self.places.push(Place::Unquotable('`')),
            (Some(Place::Unquotable(end)), next) if next == end => self.leave(),
            (_, '(') if dollar && rest.starts_with('(') => self.places.push(Place::Unquotable(')')),
            (_, '(') if dollar => self.places.push(Place::Command),
            (_, '{') if dollar => self.places.push(Place::Unquotable('}')),
            (_, '$') => self.dollar = true,
            (Some(Place::Double), '"') => self.leave(),
            (Some(Place::Double), _) => {}
            (Some(Place::Unquotable(_)), '(') => self.places.push(Place::Unquotable(')')),
            (_, '\'') if dollar => self.places.push(Place::Unquotable('\'')),
            (Some(Place::Unquotable(_)), _) => {}
            (_, '\'') => self.places.push(Place::Single),
            (_, '"') => self.places.push(Place::Double),
            (_, '(') => self.places.push(Place::Group),
            (Some(Place::Command | Place::Group), ')') => self.leave(),
            (_, '#') if !self.word => self.comment = true,
            (_, '<') => {
                self.here_document |= less;
                self.less = true;
            }
            _ => {}
        }
        self.word = !(next.is_whitespace() || matches!(next, ';' | '&' | '|' | '(' | ')'));
        if next.is_ascii_alphabetic() {
            self.letters.push(next);
        } else {
            self.case |= std::mem::take(&mut self.letters) == "case";
        }
    }

    fn leave(&mut self) {
        self.places.pop();
    }

    fn after_word(&mut self) {
        self.word = true;
        self.dollar = false;
        self.less = false;
        self.letters.clear();
    }

    /// How a value is written at this place so that it stays one literal piece.
    fn literal(&self, value: &str) -> Result<String, &'static str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=+-".contains(c);
        let place = self.places.last().copied();
        if !value.is_empty() && value.chars().all(plain) && !self.escaped && !self.dollar {
            return Ok(value.to_owned());
        }
        if value.contains('\0') {
            return Err("holds a NUL byte");
        }
        if self.comment {
            return Ok(value.replace(['\n', '\r'], " "));
        }
        if self.escaped || self.dollar || self.here_document || self.case {
            return Err(UNQUOTABLE);
        }
        let inner = value.replace('\'', r"'\''");
        match place {
            None | Some(Place::Command | Place::Group) => Ok(format!("'{inner}'")),
            Some(Place::Single) => Ok(inner),
            // Out of the double quotes, a quoted piece, and back in.
            Some(Place::Double) => Ok(format!("\"'{inner}'\"")),
            Some(Place::Unquotable(_)) => Err(UNQUOTABLE),
        }
    }
}

const UNQUOTABLE: &str = "stands where its value cannot be quoted (a here-document, `case`, backquotes, arithmetic or `${...}`); \
                          put it into an argument of its own, or read $DURE_PARAMS in the program";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expand(command: &str, value: Value) -> Result<String, String> {
        expand_parameters(command, &BTreeMap::from([("x".to_owned(), value)]))
    }

    #[test]
    fn plain_values_stand_as_they_are_everywhere() {
        for (command, expanded) in [
            ("train ${parameters.x} $HOME ${HOME}", "train 20 $HOME ${HOME}"),
            ("cat <<END\n${parameters.x}\nEND", "cat <<END\n20\nEND"),
            ("echo $((${parameters.x} + 1))", "echo $((20 + 1))"),
            ("a${parameters.x}b${parameters.x}", "a20b20"),
        ] {
            assert_eq!(expand(command, json!(20)).unwrap(), expanded);
        }
        assert_eq!(expand("${parameters.x}", json!("a/b-1.0")).unwrap(), "a/b-1.0");
        assert_eq!(expand("${parameters.x}", json!(true)).unwrap(), "true");
        assert_eq!(expand("${parameters.x}", json!("")).unwrap(), "''");
        assert_eq!(expand("${parameters.x}", json!({"a": [1]})).unwrap(), r#"'{"a":[1]}'"#);
    }

    #[test]
    fn what_names_no_parameter_is_refused() {
        assert!(expand("${parameters.y}", json!(1)).unwrap_err().contains("names no parameter"));
        assert!(expand("${parameters.x", json!(1)).unwrap_err().contains("not closed"));
    }

    #[test]
    #[cfg(unix)]
    fn the_shell_sees_any_value_as_one_literal_piece() {
        let evil =
            ["$(echo no)", "`echo no`", "a'b", "\"", "; echo no", "a b\nc", "\\", "'; echo no; '", "$HOME", "*", "# x"];
        let places = [
            ("printf %s ${parameters.x}", "", ""),
            ("printf %s \"<${parameters.x}>\"", "<", ">"),
            ("printf %s '<${parameters.x}>'", "<", ">"),
            ("printf %s \"$(printf %s ${parameters.x})\"", "", ""),
            ("printf %s \"$(printf %s \"(${parameters.x})\")\"", "(", ")"),
            ("(printf %s pre${parameters.x})", "pre", ""),
            ("# don't mind \"this\"\nprintf %s ${parameters.x}", "", ""),
            ("printf %s it\\'s${parameters.x}", "it's", ""),
        ];
        for value in evil {
            for (command, before, after) in places {
                let expanded = expand(command, json!(value)).unwrap();
                let output = std::process::Command::new("/bin/sh").args(["-c", &expanded]).output().unwrap();
                let printed = String::from_utf8(output.stdout).unwrap();
                assert_eq!(printed, format!("{before}{value}{after}"), "{command} with {value:?}: {expanded}");
            }
        }
    }

    #[test]
    fn where_nothing_can_be_quoted_only_plain_values_are_put() {
        for command in [
            "cat <<END\n${parameters.x}\nEND",
            "echo `echo ${parameters.x}`",
            "echo ${A:-${parameters.x}}",
            "echo $((${parameters.x}))",
            "echo \"$(case a in a) echo b;; esac) ${parameters.x}\"",
            "echo $${parameters.x}",
            "echo \\${parameters.x}",
            "echo $'${parameters.x}'",
        ] {
            assert!(expand(command, json!("$(no)")).is_err(), "{command}");
        }
    }
}
