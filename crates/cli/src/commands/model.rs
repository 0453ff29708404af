//! `dure model`: list, show, register, alias, download.

use std::path::{Path, PathBuf};

use dure_types::{
    Name, Page, Reference, Selector,
    dataset::DatasetQuery,
    model::{Lineage, Model, ModelVersion, RegisterModel, SetAlias, TensorSpec},
};
use futures_util::TryStreamExt as _;

use super::{done, target_file};
use crate::{
    args,
    context::Context,
    exit::CliError,
    hint, load, messages,
    output::{self, Table, View, format},
    progress::Progress,
    upload,
};

pub async fn run(context: &Context, command: args::Model) -> Result<(), CliError> {
    match command {
        args::Model::List { search } => list(context, search).await,
        args::Model::Show { model } => show(context, &model).await,
        args::Model::Register { file, name } => register(context, file, name).await,
        args::Model::Alias { version, alias } => set_alias(context, &version, &alias).await,
        args::Model::Download { model, to } => download(context, model, to).await,
    }
}

async fn list(context: &Context, search: Option<String>) -> Result<(), CliError> {
    let client = context.client()?;
    let query = DatasetQuery { search, limit: Some(1000), ..DatasetQuery::default() };
    let items: Vec<Model> = client.all_models(query).try_collect().await?;
    context.show(&Page { items, next: None }, |page| {
        if page.items.is_empty() {
            return format!("{}\n", messages::none_yet("model", format!("`{}`", hint::model_register())));
        }
        let mut table = Table::new([
            messages::h_name(),
            messages::h_latest(),
            messages::h_aliases(),
            messages::h_updated(),
            messages::h_by(),
        ])
        .right([1]);
        for model in &page.items {
            table.row([
                model.name.to_string(),
                model.latest.to_string(),
                aliases(model),
                format::moment(model.updated_at),
                model.created_by.clone(),
            ]);
        }
        table.render(output::width())
    })?;
    Ok(())
}

fn aliases(model: &Model) -> String {
    model.aliases.iter().map(|(alias, version)| format!("{alias} = {version}")).collect::<Vec<_>>().join(", ")
}

pub async fn show(context: &Context, text: &str) -> Result<(), CliError> {
    let (name, selector) = args::name_and_selector(text).map_err(CliError::usage)?;
    let client = context.client()?;
    if let Some(selector) = selector {
        let version = client.get_model_version(&name, &selector).await?;
        context.show(&version, |version| version_view(version, output::width()))?;
        let reference = format!("{name}@{}", version.version);
        let mut next = vec![hint::model_download(&reference), hint::model_alias(&reference)];
        next.extend(version.lineage.run.as_ref().map(|run| hint::show(run.short())));
        hint::print(context, next)?;
        return Ok(());
    }
    let model = client.get_model(&name).await?;
    if context.is_for_programs() {
        return Ok(output::data(&model, context.format())?);
    }
    let versions = client.list_model_versions(&name).await?;
    let mut view = View::new();
    view.row(messages::h_name(), model.name.as_str());
    view.row(messages::h_latest(), format!("{name}@{}", model.latest));
    view.row(messages::h_aliases(), aliases(&model));
    view.row(messages::h_created(), format!("{} ({})", format::moment(model.created_at), model.created_by));
    let headings = [
        messages::h_version(),
        messages::h_size(),
        messages::h_metrics(),
        messages::h_lineage(),
        messages::h_created(),
        messages::h_aliases(),
    ];
    let mut table = Table::new(headings).right([1]);
    for version in &versions.items {
        table.row([
            format!("{name}@{}", version.version),
            format::bytes(version.size),
            metrics(version, 3),
            version.lineage.run.as_ref().map(|run| run.short().to_owned()).unwrap_or_default(),
            format::moment(version.created_at),
            version.aliases.join(", "),
        ]);
    }
    let width = output::width();
    output::text(&format!("{}\n{}", view.render(width), table.render(width)))?;
    hint::print(context, [hint::show(format!("model/{name}@{}", model.latest)), hint::model_download(&name)])?;
    Ok(())
}

fn metrics(version: &ModelVersion, most: usize) -> String {
    version
        .metrics
        .iter()
        .take(most)
        .map(|(name, value)| format!("{name} {}", format::number(*value)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn version_view(version: &ModelVersion, width: Option<usize>) -> String {
    let mut view = View::new();
    view.row(messages::h_version(), format!("{}@{}", version.name, version.version));
    view.row(messages::h_aliases(), version.aliases.join(", "));
    view.row(messages::h_format(), format!("{}, {}", version.format.to_uppercase(), format::bytes(version.size)));
    view.lines(messages::h_input(), version.signature.inputs.iter().map(TensorSpec::describe));
    view.lines(messages::h_output(), version.signature.outputs.iter().map(TensorSpec::describe));
    view.row(messages::h_metrics(), metrics(version, usize::MAX));
    view.lines(messages::h_lineage(), lineage(&version.lineage));
    view.row(messages::h_digest(), version.manifest.as_str());
    view.row(messages::h_created(), format!("{} ({})", format::moment(version.created_at), version.created_by));
    view.render(width)
}

fn lineage(lineage: &Lineage) -> Vec<String> {
    let run = lineage.run.as_ref().map(|run| match &lineage.job {
        Some(job) => format!("run {}, job {job}", run.short()),
        None => format!("run {}", run.short()),
    });
    let code = lineage.code.as_ref().map(|code| format!("code {}", code.short()));
    let datasets = lineage.datasets.iter().map(|dataset| format!("dataset {dataset}"));
    let environment = lineage.environment.as_ref().map(|environment| format!("environment {}", environment.short()));
    run.into_iter().chain(code).chain(datasets).chain(environment).collect()
}

async fn register(context: &Context, file: PathBuf, name: Option<Name>) -> Result<(), CliError> {
    let name = match name {
        Some(name) => name,
        None => name_of(&file)?,
    };
    let facts = std::fs::metadata(&file).map_err(|error| CliError::unreadable(&file, &error))?;
    if facts.is_dir() {
        return Err(CliError::file(messages::cannot_read(file.display(), "it is a folder")));
    }
    let found = upload::walk_data(&file)?;
    let client = context.client()?;
    let progress = Progress::new(context);
    let manifest = load::send(&client, &progress, name.as_str(), found).await?;
    let version = client.register_model(&name, &RegisterModel { manifest }).await?;
    context.show(&version, |version| {
        let inputs: Vec<_> = version.signature.inputs.iter().map(TensorSpec::describe).collect();
        let reference = format!("{name}@{}", version.version);
        format!("{}\n", messages::model_line(reference, version.format.to_uppercase(), inputs.join(", ")))
    })?;
    let reference = format!("{name}@{}", version.version);
    hint::print(context, [hint::show(format!("model/{reference}")), hint::model_alias(&reference)])?;
    Ok(())
}

/// The file's own name, as a model's.
fn name_of(file: &Path) -> Result<Name, CliError> {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String =
        stem.chars().map(|c| if c.is_whitespace() || matches!(c, '_' | '.') { '-' } else { c }).collect();
    Name::new(name).map_err(|error| CliError::usage_next(error.to_string(), "--name NAME"))
}

async fn set_alias(context: &Context, reference: &Reference, alias: &Name) -> Result<(), CliError> {
    let client = context.client()?;
    let version = match reference.selector {
        Selector::Version(version) => version,
        Selector::Alias(_) => client.get_model_version(&reference.name, &reference.selector).await?.version,
    };
    let model = client.set_alias(&reference.name, alias, &SetAlias { version }).await?;
    let name = &reference.name;
    context
        .show(&model, |_| format!("{}\n", messages::aliased(format!("{name}@{alias}"), format!("{name}@{version}"))))?;
    hint::print(context, [hint::show(format!("model/{name}@{alias}"))])?;
    Ok(())
}

async fn download(context: &Context, model: Reference, to: Option<PathBuf>) -> Result<(), CliError> {
    let client = context.client()?;
    let version = client.get_model_version(&model.name, &model.selector).await?;
    let target = target_file(to, || format!("{}-{}.onnx", model.name, version.version))?;
    let progress = Progress::new(context);
    let bar = progress.bytes(messages::downloading(&model.name), version.size);
    let bytes = client
        .download_model(&model.name, &Selector::Version(version.version), &target, |bytes| bar.inc(bytes))
        .await?;
    bar.finish_and_clear();
    done(context, &messages::downloaded(target.display(), format::bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_after_its_file() {
        assert_eq!(
            name_of(Path::new("/x/Iris_Model.v2.onnx")).map_err(|error| error.render()).unwrap().as_str(),
            "iris-model-v2"
        );
        assert!(name_of(Path::new("모델.onnx")).is_err());
    }
}
