//! `dure dataset`: list, show, create, rename, download, delete.

use std::path::PathBuf;

use dure_types::{
    Name, Page, Reference, Selector,
    dataset::{CreateDatasetVersion, Dataset, DatasetQuery, DatasetVersion, Rename},
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

pub async fn run(context: &Context, command: args::Dataset) -> Result<(), CliError> {
    match command {
        args::Dataset::List { search } => list(context, search).await,
        args::Dataset::Show { dataset } => show(context, &dataset).await,
        args::Dataset::Create { name, source } => create(context, &name, source).await,
        args::Dataset::Rename { name, to } => {
            let dataset = context.client()?.rename_dataset(&name, &Rename { name: to.clone() }).await?;
            context.show(&dataset, |_| format!("{}\n", messages::renamed(&name, &to)))?;
            Ok(())
        }
        args::Dataset::Download { dataset, to } => download(context, dataset, to).await,
        args::Dataset::Delete { name } => {
            context.client()?.delete_dataset(&name).await?;
            done(context, &messages::deleted(format!("dataset/{name}")))
        }
    }
}

async fn list(context: &Context, search: Option<String>) -> Result<(), CliError> {
    let client = context.client()?;
    let query = DatasetQuery { search, limit: Some(1000), ..DatasetQuery::default() };
    let items: Vec<Dataset> = client.all_datasets(query).try_collect().await?;
    context.show(&Page { items, next: None }, |page| {
        if page.items.is_empty() {
            return format!("{}\n", messages::none_yet("dataset", format!("`{}`", hint::dataset_create())));
        }
        let headings = [
            messages::h_name(),
            messages::h_latest(),
            messages::h_files(),
            messages::h_size(),
            messages::h_updated(),
            messages::h_by(),
        ];
        let mut table = Table::new(headings).right([1, 2, 3]);
        for dataset in &page.items {
            table.row([
                dataset.name.to_string(),
                dataset.latest.to_string(),
                format::count(dataset.files),
                format::bytes(dataset.bytes),
                format::moment(dataset.updated_at),
                dataset.created_by.clone(),
            ]);
        }
        table.render(output::width())
    })?;
    Ok(())
}

pub async fn show(context: &Context, text: &str) -> Result<(), CliError> {
    let (name, selector) = args::name_and_selector(text).map_err(CliError::usage)?;
    let client = context.client()?;
    if let Some(selector) = selector {
        let version = client.get_dataset_version(&name, &selector).await?;
        context.show(&version, |version| version_view(version, output::width()))?;
        hint::print(context, [hint::dataset_download(format!("{name}@{}", version.version))])?;
        return Ok(());
    }
    let dataset = client.get_dataset(&name).await?;
    if context.is_for_programs() {
        return Ok(output::data(&dataset, context.format())?);
    }
    let versions = client.list_dataset_versions(&name).await?;
    let mut view = View::new();
    view.row(messages::h_name(), dataset.name.as_str());
    view.row(messages::h_latest(), format!("{name}@{}", dataset.latest));
    view.row(messages::h_files(), format!("{}, {}", files(dataset.files), format::bytes(dataset.bytes)));
    view.row(messages::h_created(), format!("{} ({})", format::moment(dataset.created_at), dataset.created_by));
    let mut table = Table::new([
        messages::h_version(),
        messages::h_files(),
        messages::h_size(),
        messages::h_created(),
        messages::h_by(),
    ])
    .right([1, 2]);
    for version in &versions.items {
        table.row([
            format!("{name}@{}", version.version),
            format::count(version.files),
            format::bytes(version.bytes),
            format::moment(version.created_at),
            version.created_by.clone(),
        ]);
    }
    let width = output::width();
    output::text(&format!("{}\n{}", view.render(width), table.render(width)))?;
    hint::print(context, [hint::show(format!("dataset/{name}@{}", dataset.latest)), hint::dataset_download(&name)])?;
    Ok(())
}

fn version_view(version: &DatasetVersion, width: Option<usize>) -> String {
    let mut view = View::new();
    view.row(messages::h_version(), format!("{}@{}", version.name, version.version));
    view.row(messages::h_files(), format!("{}, {}", files(version.files), format::bytes(version.bytes)));
    view.row(messages::h_digest(), version.manifest.as_str());
    view.row(messages::h_created(), format!("{} ({})", format::moment(version.created_at), version.created_by));
    let mut text = view.render(width);
    if let Some(manifest) = &version.contents {
        let mut table = Table::bare(2).right([1]);
        // A person reads some; a program gets them all with -o json.
        const MOST: usize = 50;
        for file in manifest.files.iter().take(MOST) {
            table.row([file.path.clone(), format::bytes(file.size)]);
        }
        text.push('\n');
        text.push_str(&table.render(width));
        if manifest.files.len() > MOST {
            text.push_str(&format!("{}\n", messages::and_more(manifest.files.len() - MOST)));
        }
    }
    text
}

fn files(number: u64) -> String {
    if number == 1 { messages::one_file() } else { messages::file_count(format::count(number)) }
}

async fn create(context: &Context, name: &Name, source: PathBuf) -> Result<(), CliError> {
    let walk = tokio::task::spawn_blocking(move || upload::walk_data(&source));
    let found = walk.await.map_err(|error| CliError::failed(error.to_string()))??;
    let client = context.client()?;
    let progress = Progress::new(context);
    let manifest = load::send(&client, &progress, name.as_str(), found).await?;
    let version = client.create_dataset_version(name, &CreateDatasetVersion { manifest }).await?;
    context.show(&version, |version| {
        let what = format!("dataset {name}@{}", version.version);
        format!("{}   {}, {}\n", messages::made(what), files(version.files), format::bytes(version.bytes))
    })?;
    hint::print(context, [hint::show(format!("dataset/{name}@{}", version.version))])?;
    Ok(())
}

async fn download(context: &Context, dataset: Reference, to: Option<PathBuf>) -> Result<(), CliError> {
    let client = context.client()?;
    // The version that the alias stands for now gives the file its name.
    let version = client.get_dataset_version(&dataset.name, &dataset.selector).await?;
    let target = target_file(to, || format!("{}-{}.zip", dataset.name, version.version))?;
    let progress = Progress::new(context);
    let bar = progress.bytes(messages::downloading(&dataset.name), version.bytes);
    let bytes = client
        .download_dataset(&dataset.name, &Selector::Version(version.version), &target, |bytes| bar.inc(bytes))
        .await?;
    bar.finish_and_clear();
    done(context, &messages::downloaded(target.display(), format::bytes(bytes)))
}
