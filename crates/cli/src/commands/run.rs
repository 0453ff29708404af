//! `dure run -- COMMAND`: a job without a file.

use std::collections::BTreeMap;

use dure_types::{
    Name,
    change::JobDocument,
    spec::{EnvironmentUse, JobSpec, Outputs, Resources, Retries},
};

use crate::{
    args, context::Context, exit::CliError, follow::Follower, hint, load, messages, progress::Progress, upload,
};

pub async fn run(context: &Context, arguments: args::Run) -> Result<(), CliError> {
    let spec = spec(&arguments)?;
    let found = match arguments.code {
        Some(folder) => {
            let walk = tokio::task::spawn_blocking(move || upload::walk_code(&folder));
            Some(walk.await.map_err(|error| CliError::failed(error.to_string()))??)
        }
        None => None,
    };
    let client = context.client()?;
    let progress = Progress::new(context);
    let code = match found {
        Some(found) => Some(load::send(&client, &progress, spec.name.as_str(), found).await?),
        None => None,
    };
    let run = client.create_run(&JobDocument { spec, code, environment: None }).await?;
    if context.is_for_programs() {
        context.show(&run, |_| String::new())?;
    }
    let id = run.id.short();
    if arguments.detach {
        context.say(&messages::goes_on(id))?;
        hint::print(context, [hint::logs_follow(id), hint::why(id)])?;
        return Ok(());
    }
    Follower { context, client: &client, progress: &progress, again: None }.run(&run.id).await?;
    hint::print(context, [hint::show(id), hint::cost()])?;
    Ok(())
}

fn spec(arguments: &args::Run) -> Result<JobSpec, CliError> {
    let usual = Resources::default();
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => name_of(arguments.command.first().map_or("", String::as_str)),
    };
    Ok(JobSpec {
        name,
        environment: arguments.environment.clone().map(EnvironmentUse::Named),
        code: arguments.code.as_ref().map(|folder| folder.display().to_string()),
        data: BTreeMap::new(),
        parameters: BTreeMap::new(),
        command: command(&arguments.command),
        env: pairs(&arguments.env)?,
        resources: Resources {
            cpu: arguments.cpu.unwrap_or(usual.cpu),
            memory: arguments.memory.unwrap_or(usual.memory),
            gpu: arguments.gpu.unwrap_or(usual.gpu),
        },
        outputs: Outputs::default(),
        timeout: arguments.timeout,
        retries: Retries::default(),
    })
}

/// One word is a line for the shell as it is; several are that command with those arguments.
fn command(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word that the shell takes as it is. `$` stands for a parameter in a spec's command, so it is quoted too.
fn shell_quote(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The program's own name, made into one that the API takes.
fn name_of(line: &str) -> Name {
    let program = line.split_whitespace().next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default().to_lowercase();
    let name: String = program.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    Name::new(name.trim_matches('-')).unwrap_or_else(|_| usual_name())
}

fn usual_name() -> Name {
    Name::new("run").expect("a name")
}

fn pairs(pairs: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(CliError::usage(messages::bad_pair(pair))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn one_word_is_a_line_and_several_are_a_command() {
        assert_eq!(command(&words(&["a && b > c"])), "a && b > c");
        assert_eq!(
            command(&words(&["python", "-c", "print('x y')", "$HOME"])),
            r"python -c 'print('\''x y'\'')' '$HOME'"
        );
        assert_eq!(command(&words(&["echo", ""])), "echo ''");
    }

    #[test]
    fn a_run_is_called_after_its_program() {
        for (line, name) in [
            ("/usr/bin/python3 x.py", "python3"),
            ("./Train_It.sh", "train-it-sh"),
            ("$(x)", "x"),
            ("숫자", "run"),
            ("", "run"),
        ] {
            assert_eq!(name_of(line).as_str(), name, "{line}");
        }
    }

    #[test]
    fn variables_are_pairs() {
        assert_eq!(
            pairs(&words(&["A=b=c", "D="])).unwrap(),
            [("A".to_owned(), "b=c".to_owned()), ("D".to_owned(), String::new())].into()
        );
        assert!(pairs(&words(&["A"])).is_err() && pairs(&words(&["=b"])).is_err());
    }
}
