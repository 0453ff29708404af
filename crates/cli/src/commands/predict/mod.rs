//! `dure predict`: the rows of a file through a service, beside what is right.

mod rows;
mod score;

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use dure_client::{Client, ClientError};
use dure_types::{
    Code, Name, Reference,
    model::{ModelVersion, Signature},
};
use serde_json::{Value, json};

use self::{
    rows::Input,
    score::{Answer, Score},
};
use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, messages,
    output::{self, Cell, Table, format, style},
    progress::Progress,
};

/// Rows of one request.
const BATCH: usize = 500;
/// Rows that are shown.
const SHOWN: usize = 10;

pub async fn run(context: &Context, arguments: args::Predict) -> Result<(), CliError> {
    let input = Input::read(&arguments.input, arguments.truth.as_deref())?;
    let client = context.client()?;
    let service = &arguments.service;
    let model = model_of(&client, service).await?;
    let encoded = input.encode(&model.signature, &format!("{}@{}", model.name, model.version))?;
    for column in &encoded.left_out {
        anstream::eprintln!("{}: {}", messages::warning(), messages::column_left_out(format::clean(column)));
    }
    let progress = Progress::new(context);
    let began = Instant::now();
    let answers = ask(&client, service, &encoded.rows, &progress).await?;
    let length = began.elapsed();
    let truth = |index: usize| input.truth.as_ref().and_then(|truth| truth.get(index).cloned());
    let of_row = |(index, row)| Answer::of(row, &model.signature, truth(index));
    let mut answers: Vec<Answer> = answers.into_iter().enumerate().map(of_row).collect();
    let score = Score::of(&mut answers, &model.signature);
    if score == Score::None && input.truth.is_some() {
        anstream::eprintln!("{}: {}", messages::warning(), messages::not_comparable());
    }
    if let Some(file) = &arguments.output {
        write(file, &answers, &score)?;
    }
    if context.is_for_programs() {
        let rows: Vec<&Value> = answers.iter().map(|answer| &answer.row).collect();
        output::data(
            &json!({"model_name": model.name, "model_version": model.version.to_string(), "rows": rows}),
            context.format(),
        )?;
        if let Some(summary) = score.summary() {
            context.say(&summary)?;
        }
        return Ok(());
    }
    output::text(&render(&answers, &score, length, output::width()))?;
    if let Some(file) = &arguments.output {
        output::line(messages::downloaded(file.display(), messages::row_count(format::count(answers.len() as u64))))?;
    }
    hint::print(
        context,
        [hint::show(format!("service/{service}")), hint::show(format!("model/{}@{}", model.name, model.version))],
    )?;
    Ok(())
}

/// The model that answers. One that is being rolled out may take over meanwhile, and what does not fit it the
/// service refuses itself.
async fn model_of(client: &Client, service: &Name) -> Result<ModelVersion, CliError> {
    let found = client.get_service(service).await?;
    let reference = found.answers.as_deref().and_then(|model| model.parse::<Reference>().ok());
    let Some(reference) = reference else {
        let why = found.reason.map_or_else(|| found.state.as_str().to_owned(), |reason| reason.message);
        return Err(CliError::failed(format!("{}: {why}", messages::not_serving(service))));
    };
    Ok(client.get_model_version(&reference.name, &reference.selector).await?)
}

async fn ask(client: &Client, service: &Name, rows: &[Value], progress: &Progress) -> Result<Vec<Value>, CliError> {
    let status = progress.status();
    let mut answers = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        status.set_message(format!("{}   {}/{}", messages::predicting(service), answers.len(), rows.len()));
        let mut answer =
            client.predict(client.project(), service, &json!({"rows": batch})).await.map_err(|error| match error {
                ClientError::Problem(problem) if problem.is(Code::InputShape) && problem.next.is_none() => {
                    CliError::from(problem.next(hint::show(format!("service/{service}"))))
                }
                error => error.into(),
            })?;
        match answer.get_mut("rows").map(Value::take) {
            Some(Value::Array(rows)) if rows.len() == batch.len() => answers.extend(rows),
            Some(Value::Array(rows)) => {
                return Err(CliError::failed(messages::short_answer(service, rows.len(), batch.len())));
            }
            _ => return Err(CliError::failed(messages::short_answer(service, 0, batch.len()))),
        }
    }
    status.finish_and_clear();
    Ok(answers)
}

fn render(answers: &[Answer], score: &Score, length: Duration, width: Option<usize>) -> String {
    let with_confidence = answers.iter().any(|answer| answer.confidence.is_some());
    let mut headings = vec![messages::h_row(), messages::h_prediction()];
    if with_confidence {
        headings.push(messages::h_confidence());
    }
    match score {
        Score::None => {}
        Score::Classes { .. } => headings.extend([messages::h_truth(), messages::h_ok()]),
        Score::Numbers { .. } => headings.extend([messages::h_truth(), messages::h_error_size()]),
    }
    let numbers = std::iter::once(0).chain(if with_confidence { Some(2) } else { None });
    let mut table = Table::new(headings).right(numbers);
    for (index, answer) in answers.iter().take(SHOWN).enumerate() {
        let mut row = vec![Cell::from((index + 1).to_string()), Cell::from(&answer.prediction)];
        if with_confidence {
            row.push(Cell::from(answer.confidence.map(|share| format!("{share:.3}")).unwrap_or_default()));
        }
        if !matches!(score, Score::None) {
            row.push(Cell::from(answer.truth.as_deref().unwrap_or_default()));
        }
        match score {
            Score::None => {}
            Score::Classes { .. } if answer.is_right() => row.push(Cell::styled(messages::yes(), style::GOOD)),
            Score::Classes { .. } => row.push(Cell::styled(messages::no(), style::BAD)),
            Score::Numbers { .. } => row.push(Cell::from(answer.off_by().map(format::number).unwrap_or_default())),
        }
        table.row(row);
    }
    let mut text = table.render(width);
    if answers.len() > SHOWN {
        text.push_str(&format!("{}\n", messages::and_more(format::count((answers.len() - SHOWN) as u64))));
    }
    let answered = messages::answered(format::count(answers.len() as u64), format::duration(length));
    match score.summary() {
        Some(summary) => text.push_str(&format!("{summary}   {answered}\n")),
        None => text.push_str(&format!("{answered}\n")),
    }
    text
}

/// All rows: JSON with everything that was answered where the file ends in .json, else CSV.
fn write(file: &Path, answers: &[Answer], score: &Score) -> Result<(), CliError> {
    let text = if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        let rows: Vec<Value> = answers.iter().map(|answer| answer.to_json(score)).collect();
        let mut text = serde_json::to_vec_pretty(&rows).map_err(std::io::Error::from)?;
        text.push(b'\n');
        text
    } else {
        csv(answers, score).map_err(|error| CliError::failed(messages::cannot_write(file.display(), error)))?
    };
    let fault = |error: std::io::Error| CliError::io(messages::cannot_write(file.display(), &error), error);
    let mut open = std::fs::File::create(file).map_err(fault)?;
    open.write_all(&text).map_err(fault)
}

fn csv(answers: &[Answer], score: &Score) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    match score {
        Score::None => writer.write_record(["prediction", "probability"])?,
        Score::Classes { .. } => writer.write_record(["prediction", "probability", "truth", "ok"])?,
        Score::Numbers { .. } => writer.write_record(["prediction", "probability", "truth", "off_by"])?,
    }
    for answer in answers {
        let mut row =
            vec![answer.prediction.clone(), answer.confidence.map(|share| share.to_string()).unwrap_or_default()];
        if !matches!(score, Score::None) {
            row.push(answer.truth.clone().unwrap_or_default());
        }
        match score {
            Score::None => {}
            Score::Classes { .. } => row.push(answer.is_right().to_string()),
            Score::Numbers { .. } => row.push(answer.off_by().map(|off| off.to_string()).unwrap_or_default()),
        }
        writer.write_record(row)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// Which output is the prediction: the one called after labels, else the first.
fn prediction_of(signature: &Signature) -> Option<&dure_types::model::TensorSpec> {
    signature
        .outputs
        .iter()
        .find(|output| output.name.to_lowercase().contains("label"))
        .or_else(|| signature.outputs.first())
}
