//! Every sentence of the CLI's own, in English and Korean. What the API says stays as it says it.
//!
//! The language is Korean where DURE_LANG, LC_ALL, LC_MESSAGES or LANG says `ko`, the first that is set.

use std::{fmt::Display, sync::OnceLock};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Korean,
}

impl Language {
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let said = ["DURE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"]
            .into_iter()
            .find_map(|name| variable(name).filter(|value| !value.is_empty()))
            .unwrap_or_default();
        // `kok` is Konkani.
        let language = said.split(['_', '.', '@', '-']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("ko") { Self::Korean } else { Self::English }
    }
}

fn language() -> Language {
    static LANGUAGE: OnceLock<Language> = OnceLock::new();
    *LANGUAGE.get_or_init(|| Language::of(|name| std::env::var(name).ok()))
}

macro_rules! messages {
    ($($name:ident ( $($argument:ident),* ) = $english:literal, $korean:literal;)*) => {
        $(pub fn $name($($argument: impl Display),*) -> String {
            match language() {
                Language::English => format!($english),
                Language::Korean => particles(&format!($korean)),
            }
        })*

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $korean),)*];
    };
}

/// Writes the particles that depend on the sound before them: `을(를)`, `이(가)`, `은(는)`, `(으)로`, `(이)라`.
/// Where the sound is not known, as after a Latin letter, both stay.
fn particles(text: &str) -> String {
    const FORMS: [(&str, &str, &str); 5] = [
        ("을(를)", "을", "를"),
        ("이(가)", "이", "가"),
        ("은(는)", "은", "는"),
        ("(으)로", "으로", "로"),
        ("(이)라", "이라", "라"),
    ];
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let form = FORMS.iter().find(|(both, ..)| rest.starts_with(both));
        if let Some((both, closed, open)) = form {
            let before = written.chars().rev().find(|c| !matches!(c, '`' | ')' | '"'));
            written.push_str(match before.and_then(final_consonant) {
                // `(으)로` follows ㄹ as it follows a vowel.
                Some(8) if *both == "(으)로" => open,
                Some(0) => open,
                Some(_) => closed,
                None => both,
            });
            rest = &rest[both.len()..];
        } else {
            written.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    written
}

/// The number of the consonant that a syllable ends with in Unicode's order, 0 where it ends with a vowel.
fn final_consonant(c: char) -> Option<u32> {
    match c {
        '가'..='힣' => Some((c as u32 - '가' as u32) % 28),
        // As they are read: 영 일 이 삼 사 오 육 칠 팔 구.
        '0'..='9' => Some([21, 8, 0, 16, 0, 0, 1, 8, 8, 0][c as usize - '0' as usize]),
        _ => None,
    }
}

messages! {
    // what stands before something
    error() = "error", "오류";
    warning() = "warning", "주의";
    next() = "Next", "다음";
    try_next() = "try", "해 볼 일";

    // how a command line is wrong
    no_profile() = "no control plane is known here", "이 컴퓨터에는 등록된 컨트롤 플레인이 없습니다";
    no_profile_next() = "start one with `dure up`, or set DURE_URL and DURE_TOKEN", "`dure up`으로 시작하거나 DURE_URL과 DURE_TOKEN을 설정하세요";
    profile_unknown(name, known) = "there is no profile `{name}` (there are: {known})", "프로필 `{name}`이(가) 없습니다 (있는 것: {known})";
    profile_broken(path, why) = "{path} is not a list of profiles: {why}", "{path}은(는) 프로필 목록이 아닙니다: {why}";
    no_token(url) = "DURE_URL is {url}, but there is no token for it", "DURE_URL은 {url}인데 토큰이 없습니다";
    no_token_next() = "set DURE_TOKEN; `dure token create` makes one where you are signed in", "DURE_TOKEN을 설정하세요. 로그인된 곳에서 `dure token create`로 만듭니다";
    no_home() = "neither DURE_CONFIG_DIR, XDG_CONFIG_HOME nor HOME says where profiles are kept", "DURE_CONFIG_DIR, XDG_CONFIG_HOME, HOME 중 어느 것도 프로필 위치를 알려 주지 않습니다";
    not_a_terminal() = "this would change things, and there is no terminal to ask on", "무언가를 바꾸게 되는데 물어볼 터미널이 없습니다";
    not_a_terminal_next() = "pass --yes to apply without being asked, or look first with `dure plan`", "묻지 않고 적용하려면 --yes를 주고, 먼저 보려면 `dure plan`을 쓰세요";
    not_a_thing(text) = "`{text}` is neither a run's id nor KIND/NAME", "`{text}`은(는) 실행 번호도 종류/이름도 아닙니다";
    not_a_thing_next() = "7f3a, model/digits@1, service/digits, dataset/digits, environment/sklearn, job/train-digits, node/NAME", "7f3a, model/digits@1, service/digits, dataset/digits, environment/sklearn, job/train-digits, node/NAME";
    no_run(text) = "there is no run or job `{text}`", "`{text}`(이)라는 실행이나 작업이 없습니다";
    no_node(name) = "there is no node `{name}`", "노드 `{name}`이(가) 없습니다";
    no_schema(path, known) = "the spec has no `{path}` (there are: {known})", "명세에 `{path}`가 없습니다 (있는 것: {known})";
    bad_pair(text) = "`{text}` is not KEY=VALUE", "`{text}`은(는) KEY=VALUE 꼴이 아닙니다";
    bad_since(text) = "`{text}` is neither a length of time (30d, 12h) nor a date (2026-11-24)", "`{text}`은(는) 기간(30d, 12h)도 날짜(2026-11-24)도 아닙니다";

    // files
    cannot_read(path, why) = "{path} cannot be read: {why}", "{path}을(를) 읽을 수 없습니다: {why}";
    cannot_write(path, why) = "{path} cannot be written: {why}", "{path}에 쓸 수 없습니다: {why}";
    no_folder(folder) = "there is no folder {folder}", "{folder} 폴더가 없습니다";
    looked_in(folder) = "looked in {folder}", "찾은 곳: {folder}";
    did_you_mean(name) = "did you mean `{name}`?", "혹시 `{name}`입니까?";
    did_you_mean_or(name, command) = "did you mean `{name}`? {command}", "혹시 `{name}`입니까? {command}";
    not_utf8(byte) = "not text in UTF-8: the byte {byte} begins no character", "UTF-8 텍스트가 아닙니다: 바이트 {byte}(으)로 시작하는 글자는 없습니다";
    not_utf8_next() = "save the file as UTF-8", "파일을 UTF-8로 저장하세요";
    remote_source(source) = "`{source}` is not on this machine; so far only a folder or a file of this machine can be named here", "`{source}`은(는) 이 컴퓨터에 없습니다. 아직은 이 컴퓨터의 폴더나 파일만 쓸 수 있습니다";
    exists_already(path) = "{path} exists already", "{path}가 이미 있습니다";
    exists_already_next() = "name another file with --to", "--to로 다른 파일을 지정하세요";
    not_text(path) = "{path} is not text in UTF-8", "{path}은(는) UTF-8 텍스트가 아닙니다";
    too_large(path, size) = "{path} is larger than {size}", "{path}가 {size}보다 큽니다";
    link_leaves(path, target) = "{path} is a link that leaves the folder, to {target}", "{path}은(는) 폴더 밖 {target}을(를) 가리키는 링크입니다";
    link_leaves_next() = "copy what it names into the folder, or leave it out (a line in .dureignore for code)", "가리키는 것을 폴더 안에 복사하거나 빼세요 (코드라면 .dureignore에 한 줄)";
    link_broken(path) = "{path} is a link to nothing", "{path}은(는) 아무것도 가리키지 않는 링크입니다";
    odd_file(path, kind) = "{path} is a {kind}, which cannot be uploaded", "{path}은(는) {kind}(이)라서 올릴 수 없습니다";
    odd_name(path) = "{path}: the name is not text in UTF-8", "{path}: 이름이 UTF-8 텍스트가 아닙니다";
    no_files(path) = "{path} has no file to upload", "{path}에 올릴 파일이 없습니다";
    no_files_next() = "see what its .gitignore and .dureignore leave out", ".gitignore와 .dureignore가 무엇을 빼는지 보세요";
    not_a_folder(path) = "{path} is not a folder", "{path}은(는) 폴더가 아닙니다";

    // uploading and following
    reading(what) = "reading {what}", "{what} 읽는 중";
    uploading(what) = "uploading {what}", "{what} 올리는 중";
    downloading(what) = "downloading {what}", "{what} 내려받는 중";
    downloaded(path, size) = "wrote {path}, {size}", "{path}에 썼습니다, {size}";
    apply_question() = "Apply? [Y/n] ", "적용할까요? [Y/n] ";
    nothing_to_change() = "nothing to change", "바꿀 것이 없습니다";
    not_applied() = "not applied", "적용하지 않았습니다";
    detached(command) = "detached; it goes on. Back with: {command}", "빠져나왔습니다. 실행은 계속됩니다. 돌아오기: {command}";
    goes_on(run) = "started {run}; it goes on by itself", "{run}을(를) 시작했습니다. 혼자 계속됩니다";
    run_on(run, name, node) = "run {run}   {name}   running on {node}", "실행 {run}   {name}   {node}에서 실행 중";
    run_state(run, name, state) = "run {run}   {name}   {state}", "실행 {run}   {name}   {state}";
    again(number, why) = "attempt {number}: {why}", "{number}번째 시도: {why}";
    environment_line(name, text) = "environment {name}   {text}", "환경 {name}   {text}";
    environment_ready(length, packages) = "ready {length}, {packages} packages", "{length} 만에 준비됨, 패키지 {packages}개";
    model_line(version, format, input) = "model {version}   {format}, input {input}", "모델 {version}   {format}, 입력 {input}";
    output_line(kind, name, size) = "{kind} {name}   {size}", "{kind} {name}   {size}";
    from_run(run) = "from run {run}", "실행 {run}에서";
    service_ready(name, length, url) = "service {name}   ready {length}   {url}", "서비스 {name}   {length} 만에 준비됨   {url}";
    service_waits(name, why) = "service {name}   {why}", "서비스 {name}   {why}";
    failed_exit(name, code, length) = "{name} failed: exit {code} after {length}", "{name} 실패: 종료 코드 {code}, {length} 뒤";
    failed_signal(name, signal, length) = "{name} failed: ended by signal {signal} after {length}", "{name} 실패: 신호 {signal}(으)로 끝남, {length} 뒤";
    failed_why(name, why) = "{name} failed: {why}", "{name} 실패: {why}";
    failed_service(name, why) = "service {name} is not ready: {why}", "서비스 {name}이(가) 준비되지 않았습니다: {why}";
    cancelled(name, why) = "{name} was cancelled: {why}", "{name} 취소됨: {why}";
    log_hint(command) = "log: {command}", "로그: {command}";
    again_hint(command) = "run it again: {command}", "다시 실행: {command}";
    connection_lost() = "the connection was lost; what runs goes on", "연결이 끊겼습니다. 실행은 계속됩니다";

    // plan
    per_hour(rate, note) = "{rate} ({note})", "{rate} ({note})";
    takes(length, runs) = "about {length}, from {runs} earlier", "약 {length}, 앞선 {runs}번에서";
    takes_unknown() = "no earlier run to tell how long from", "걸릴 시간을 알려 줄 앞선 실행이 없습니다";
    why_here(why) = "why here: {why}", "이곳인 이유: {why}";
    would_wait(why) = "would wait: {why}", "기다리게 됩니다: {why}";

    // headings and keys
    h_run() = "run", "실행";
    h_name() = "name", "이름";
    h_kind() = "kind", "종류";
    h_state() = "state", "상태";
    h_node() = "node", "노드";
    h_started() = "started", "시작";
    h_ended() = "ended", "끝";
    h_took() = "took", "걸린 시간";
    h_cost() = "cost", "비용";
    h_by() = "by", "만든 사람";
    h_at() = "at", "때";
    h_version() = "version", "버전";
    h_latest() = "latest", "최신";
    h_files() = "files", "파일";
    h_size() = "size", "크기";
    h_aliases() = "aliases", "별칭";
    h_format() = "format", "형식";
    h_input() = "input", "입력";
    h_output() = "output", "출력";
    h_metrics() = "metrics", "지표";
    h_packages() = "packages", "패키지";
    h_python() = "python", "파이썬";
    h_digest() = "digest", "다이제스트";
    h_model() = "model", "모델";
    h_replicas() = "replicas", "복제본";
    h_requests() = "requests", "요청";
    h_url() = "url", "주소";
    h_revision() = "revision", "리비전";
    h_serving() = "serving", "응답 중";
    h_engine() = "engine", "엔진";
    h_cpu() = "cpu", "CPU";
    h_memory() = "memory", "메모리";
    h_gpu() = "gpu", "GPU";
    h_limits() = "limits", "제한";
    h_rate() = "rate", "요율";
    h_ready() = "ready", "준비";
    h_what() = "what", "내용";
    h_project() = "project", "프로젝트";
    h_user() = "user", "사용자";
    h_role() = "role", "역할";
    h_token() = "token", "토큰";
    h_title() = "title", "제목";
    h_reason() = "why", "이유";
    h_command() = "command", "명령";
    h_code() = "code", "코드";
    h_environment() = "environment", "환경";
    h_data() = "data", "데이터";
    h_resources() = "resources", "자원";
    h_attempts() = "attempts", "시도";
    h_outputs() = "outputs", "결과물";
    h_lineage() = "made by", "만든 실행";
    h_build() = "build", "빌드";
    h_error() = "error", "오류";
    h_created() = "created", "만든 때";
    h_updated() = "updated", "바뀐 때";
    h_runs() = "runs", "실행 수";
    h_spent() = "spent", "쓴 비용";
    h_always_on() = "if always on", "늘 켜 두면";
    h_saved() = "saved", "절약";
    h_total() = "total", "합계";
    h_held_by() = "held by", "점유";
    h_place() = "place", "순서";
    h_sooner() = "sooner", "더 빨리";
    h_waits_for() = "waits for", "기다리는 실행";
    h_starts_by() = "starts by", "늦어도";
    h_row() = "row", "행";
    h_prediction() = "prediction", "예측";
    h_truth() = "truth", "정답";
    h_ok() = "ok", "맞음";
    h_confidence() = "probability", "확률";
    h_error_size() = "off by", "차이";
    yes() = "yes", "예";
    no() = "no", "아니요";
    none_yet(what, command) = "no {what} yet; {command} makes one", "아직 {what} 없음; {command}(으)로 만듭니다";
    nothing_runs() = "nothing runs; `dure ps --all` shows what ended too", "실행 중인 것이 없습니다. 끝난 것도 보려면 `dure ps --all`";
    no_runs() = "no runs yet", "아직 실행이 없습니다";
    none_found(what) = "no {what}", "{what} 없음";
    place_in_queue(place) = "{place}. in the queue", "대기열 {place}번째";
    starts_by(time) = "{time}, if every holder ends at its time limit", "{time}, 점유한 실행이 모두 제한 시간에 끝난다면";
    holder(run, name, by, what) = "run {run} ({by}, {name}) {what}", "실행 {run} ({by}, {name}) {what}";
    holder_ends(length) = "ends in {length} at the latest", "늦어도 {length} 뒤 끝남";
    waiting_for(length, why) = "waiting {length}: {why}", "{length}째 대기: {why}";

    // cost
    baseline(name) = "baseline: {name}", "비교 기준: {name}";
    rates(source) = "rates: {source}", "요율: {source}";
    assumed() = "assumed by Dure, not a bill", "두레의 가정이며 청구서가 아닙니다";
    saved_share(percent) = "{percent} %", "{percent} %";
    still_running() = "goes on", "계속 중";
    nothing_spent() = "nothing was spent", "쓴 비용이 없습니다";

    // predict
    accuracy(value, right, of) = "accuracy {value} ({right} of {of})", "정확도 {value} ({of}개 중 {right}개)";
    mean_error(value, of) = "mean absolute error {value} ({of} rows)", "평균 절대 오차 {value} ({of}행)";
    and_more(number) = "... and {number} more", "... 그 밖에 {number}개";
    answered(rows, length) = "{rows} rows in {length}", "{rows}행, {length}";
    predicting(service) = "asking {service}", "{service}에 묻는 중";
    no_column(name, known) = "the input has no column `{name}` (it has: {known})", "입력에 `{name}` 열이 없습니다 (있는 것: {known})";
    no_rows(path) = "{path} has no rows", "{path}에 행이 없습니다";
    bad_row(path, row, why) = "{path}: row {row}: {why}", "{path}: {row}행: {why}";
    wrong_width(columns, model, input, wanted) = "the input has {columns} columns, but {model} takes {input}: {wanted} values a row", "입력은 열이 {columns}개인데 {model}은(는) {input}을(를) 받습니다: 한 행에 값 {wanted}개";
    wrong_width_next() = "leave the label out with --truth COLUMN", "정답 열은 --truth COLUMN으로 빼세요";
    not_number(value, column, wanted) = "`{value}` in column `{column}` is not a number ({wanted} is wanted)", "`{column}` 열의 `{value}`은(는) 수가 아닙니다 ({wanted} 필요)";
    not_serving(service) = "service {service} has no model yet", "서비스 {service}에 아직 모델이 없습니다";
    not_comparable() = "what the model answers cannot be compared with that column", "모델의 답은 그 열과 비교할 수 없습니다";
    column_left_out(column) = "no input is called `{column}`; that column was left out", "`{column}`(이)라는 입력이 없어 그 열은 뺐습니다";
    file_count(files) = "{files} files", "파일 {files}개";
    one_file() = "1 file", "파일 1개";
    check_columns(file, model) = "compare the columns of {file} with the input: dure show model/{model}", "{file}의 열을 입력과 비교하세요: dure show model/{model}";
    ragged(file, line, has, wanted) = "{file}: line {line} has {has} values, the heading has {wanted}", "{file}: {line}번째 줄은 값이 {has}개인데 머리글은 {wanted}개입니다";
    bad_listen(text) = "`{text}` is not an IP address with a port, such as 127.0.0.1:7770 or [::1]:0", "`{text}`은(는) 127.0.0.1:7770이나 [::1]:0 같은 IP 주소와 포트가 아닙니다";
    exit_signal(code, signal) = "{code} (as after signal {signal})", "{code} (신호 {signal}에 해당)";
    row_count(rows) = "{rows} rows", "{rows}행";
    short_answer(service, got, wanted) = "{service} answered {got} rows to {wanted}", "{service}가 {wanted}행에 {got}행으로 답했습니다";

    // things done
    over_already(run, name, state) = "run {run}   {name}   is over already: {state}", "실행 {run}   {name}   이미 끝났습니다: {state}";
    stopped_run(run, state) = "run {run} {state}", "실행 {run} {state}";
    deleted(what) = "deleted {what}", "{what}을(를) 지웠습니다";
    renamed(from, to) = "renamed {from} to {to}", "{from}의 이름을 {to}(으)로 바꿨습니다";
    made(what) = "created {what}", "{what}을(를) 만들었습니다";
    aliased(alias, version) = "{alias} is now {version}", "{alias}은(는) 이제 {version}입니다";
    member_set(user, role, project) = "{user} is {role} of {project}", "{user}은(는) {project}의 {role}입니다";
    member_removed(user, project) = "{user} is no member of {project} any more", "{user}은(는) 더 이상 {project}의 구성원이 아닙니다";
    token_once() = "shown this once; keep it", "지금 한 번만 보입니다. 보관하세요";
    revoked(token) = "revoked {token}", "{token}을(를) 무효로 했습니다";

    // up and down
    listening(url) = "Listening {url}", "주소      {url}";
    signed_in(profile) = "(the CLI is signed in as owner, profile {profile})", "(CLI는 소유자로 로그인됨, 프로필 {profile})";
    profile_kept(profile, url, own) = "profile `{profile}` still names {url}; this control plane's is `{own}`", "프로필 `{profile}`은(는) 여전히 {url}입니다. 이 컨트롤 플레인은 `{own}`입니다";
    not_signed_in() = "(no profile here knows its token; set DURE_TOKEN)", "(이곳의 프로필에는 토큰이 없습니다. DURE_TOKEN을 설정하세요)";
    needs_tls(address) = "{address} is reached from other machines, and tokens would travel readable", "{address}은(는) 다른 컴퓨터에서 닿는 주소라서 토큰이 그대로 드러납니다";
    needs_tls_next() = "give --tls-cert and --tls-key, or say --insecure", "--tls-cert와 --tls-key를 주거나 --insecure를 쓰세요";
    bad_rate(rate) = "{rate} is no rate in US dollars an hour", "{rate}은(는) 시간당 미국 달러 요율이 아닙니다";
    no_data_home() = "neither --data-dir, DURE_DATA_DIR nor HOME says where state is kept", "--data-dir, DURE_DATA_DIR, HOME 중 어느 것도 데이터 위치를 알려 주지 않습니다";
    ends_units_go_on() = "stopped; what runs goes on. Start it again with: dure up", "멈췄습니다. 실행은 계속됩니다. 다시 시작: dure up";
    ended_runs(number) = "runs: {number}", "실행 {number}개";
    ended_service(name, replicas) = "service {name} (replicas: {replicas})", "서비스 {name} (복제본 {replicas}개)";
    ended_keeper() = "the keeper", "키퍼";
    ended_control_plane() = "the control plane", "컨트롤 플레인";
    ended(what) = "ended {what}", "끝냄: {what}";

    // doctor
    ok() = "ok", "정상";
    warn() = "warn", "주의";
    fail() = "fail", "실패";
    d_kernel() = "kernel", "커널";
    d_kernel_fix() = "Linux 5.4 or newer is needed", "Linux 5.4 이상이 필요합니다";
    d_limits() = "limits", "제한";
    d_limits_fix() = "memory limits are held by watching, which is slower to notice; delegate a cgroup to this user to have the kernel hold them", "메모리 제한을 지켜보는 방식이라 늦게 알아챕니다. 커널이 지키게 하려면 이 사용자에게 cgroup을 위임하세요";
    d_data() = "data folder", "데이터 폴더";
    d_data_fix() = "give another with --data-dir, or make it writable", "--data-dir로 다른 폴더를 주거나 쓸 수 있게 하세요";
    d_disk() = "disk", "디스크";
    d_disk_free(size) = "{size} free", "{size} 비어 있음";
    d_disk_fix() = "environments of machine-learning packages take gigabytes; free some, or give another --data-dir", "머신러닝 패키지 환경은 수 기가바이트입니다. 공간을 비우거나 다른 --data-dir을 주세요";
    d_python() = "python", "파이썬";
    d_python_none() = "none found", "찾지 못함";
    d_python_fix() = "uv fetches one where it can; else install python3", "uv가 받을 수 있으면 받습니다. 아니면 python3을 설치하세요";
    d_uv() = "uv", "uv";
    d_uv_none() = "not found; it is fetched from the package index when it is first needed", "없음. 처음 필요할 때 패키지 인덱스에서 받습니다";
    d_index() = "package index", "패키지 인덱스";
    d_port() = "port", "포트";
    d_port_free(port) = "{port} is free", "{port} 사용 가능";
    d_port_ours(port) = "{port} is the control plane's", "{port}은(는) 컨트롤 플레인이 씁니다";
    d_port_taken(port) = "{port} is taken by something else", "{port}을(를) 다른 것이 씁니다";
    d_port_fix() = "start with another: dure up --listen 127.0.0.1:PORT", "다른 포트로 시작하세요: dure up --listen 127.0.0.1:PORT";
    d_control() = "control plane", "컨트롤 플레인";
    d_control_as(url, user) = "{url}, signed in as {user}", "{url}, {user}(으)로 로그인됨";
    doctor_failed(number) = "checks failed: {number}", "점검 {number}개 실패";
}

/// Every text in both languages.
#[cfg(test)]
pub fn texts() -> impl Iterator<Item = &'static str> {
    ALL.iter().flat_map(|(_, english, korean)| [*english, *korean])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_language_is_the_first_that_is_said() {
        let of = |pairs: &'static [(&str, &str)]| {
            Language::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[("LANG", "ko_KR.UTF-8")]), Language::Korean);
        assert_eq!(of(&[("LANG", "ko_KR.UTF-8"), ("LC_ALL", "C.UTF-8")]), Language::English);
        assert_eq!(of(&[("DURE_LANG", "ko"), ("LC_ALL", "C")]), Language::Korean);
        assert_eq!(of(&[("LC_ALL", ""), ("LANG", "ko")]), Language::Korean);
        assert_eq!(of(&[("LANG", "kok_IN.UTF-8")]), Language::English);
        assert_eq!(of(&[]), Language::English);
    }

    #[test]
    fn particles_follow_the_sound_before_them() {
        assert_eq!(particles("digits@3이(가) 폴더을(를) 서울(으)로"), "digits@3이 폴더를 서울로");
        assert_eq!(particles("`모델`은(는) 2(으)로 file.csv을(를)"), "`모델`은 2로 file.csv을(를)");
    }

    #[test]
    fn both_languages_say_the_same_things() {
        let arguments = |text: &str| -> BTreeSet<String> {
            text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name.to_owned()).collect()
        };
        for (name, english, korean) in ALL {
            assert_eq!(arguments(english), arguments(korean), "{name}");
            assert!(!korean.is_empty() && !english.is_empty(), "{name}");
        }
    }
}
