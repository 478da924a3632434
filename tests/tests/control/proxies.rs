//! The general proxies: where their programs are, how each is told to balance two accounts, and a
//! running one.
//!
//! Each is configured to *hide* failures, as its manual offers to whoever wants no errors to be
//! seen, and to be *careful*, so that a request that may have arrived is not sent elsewhere. nginx
//! hides answered errors only when they are named, so it has a third form. All of them wait one
//! second for an upstream, and leave one alone that fails, as far as they know how.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use interlock_tests::house::free_ports;
use tempfile::TempDir;

/// A program that balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
    /// Envoy.
    Envoy,
}

/// What a proxy is told to do with failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Hide them by asking elsewhere.
    Hides,
    /// The same with answered errors, where a proxy asks for them by name.
    HidesErrorsToo,
    /// Show those after which something may have happened.
    Careful,
}

/// A general proxy in one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Which.
    pub program: Program,
    /// Told what.
    pub form: Form,
}

/// In the order of the table.
pub const PROXIES: [Proxy; 7] = [
    Proxy { program: Program::Nginx, form: Form::Hides },
    Proxy { program: Program::Nginx, form: Form::HidesErrorsToo },
    Proxy { program: Program::HaProxy, form: Form::Hides },
    Proxy { program: Program::Envoy, form: Form::Hides },
    Proxy { program: Program::Nginx, form: Form::Careful },
    Proxy { program: Program::HaProxy, form: Form::Careful },
    Proxy { program: Program::Envoy, form: Form::Careful },
];

impl Program {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    /// Where it is: in `PATH`, where Debian puts servers, or where `cargo xtask control` put it.
    pub fn find(self) -> Option<PathBuf> {
        let file = match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Envoy => "envoy",
        };
        let test = std::env::current_exe().expect("the test's own path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let mut folders = vec![target.join("peers-proxies/envoy/_bin")];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
        folders.into_iter().map(|folder| folder.join(file)).find(|path| path.is_file())
    }

    /// The version that it says, such as `1.22.1`.
    pub fn version(self, path: &Path) -> String {
        let flag = if self == Self::Envoy { "--version" } else { "-v" };
        let ran = Command::new(path).arg(flag).output().expect("the proxy says its version");
        let text = [ran.stdout, ran.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let words = text.split(|c: char| c.is_whitespace() || c == '/' || c == '-');
        let is_version = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_digit()) && word.matches('.').count() == 2
        };
        words.into_iter().find(is_version).unwrap_or("unknown").to_owned()
    }
}

impl Proxy {
    /// Its name in the table.
    pub fn name(self) -> String {
        let form = match self.form {
            Form::Hides => "",
            Form::HidesErrorsToo => ", errors too",
            Form::Careful => ", careful",
        };
        format!("{}{form}", self.program.name())
    }

    /// Whether it is told to hide failures.
    pub fn hides(self) -> bool {
        self.form != Form::Careful
    }

    /// The setting that decides.
    pub fn setting(self) -> &'static str {
        match (self.program, self.form) {
            (Program::Nginx, Form::Hides) => "proxy_next_upstream error timeout non_idempotent",
            (Program::Nginx, Form::HidesErrorsToo) => {
                "proxy_next_upstream error timeout http_500 http_503 non_idempotent"
            }
            (Program::Nginx, Form::Careful) => "proxy_next_upstream error timeout",
            (Program::HaProxy, Form::Careful) => "retry-on conn-failure",
            (Program::HaProxy, _) => "retry-on all-retryable-errors",
            (Program::Envoy, Form::Careful) => {
                "retry_on: connect-failure,refused-stream,reset-before-request"
            }
            (Program::Envoy, _) => "retry_on: 5xx,reset",
        }
    }

    /// Starts it in front of two upstreams, `HOST:PORT` each, and waits until it listens.
    pub fn start(self, upstreams: &[String; 2]) -> Running {
        let path = self.program.find().expect("looked for before");
        let dir = tempfile::tempdir().expect("a folder");
        let port = free_ports(1)[0];
        let root = dir.path();
        let [a, b] = upstreams;
        let (text, arguments): (String, Vec<&str>) = match self.program {
            Program::Nginx => (self.nginx(port, a, b, root), vec!["-e", "stderr", "-c"]),
            Program::HaProxy => (self.haproxy(port, a, b), vec!["-db", "-f"]),
            Program::Envoy => (
                self.envoy(port, a, b),
                vec!["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"],
            ),
        };
        let file = root.join(if self.program == Program::Envoy { "c.yaml" } else { "c.conf" });
        fs::write(&file, text).expect("a configuration");
        let log = root.join("log");
        let out = fs::File::create(&log).expect("a log");
        let child = Command::new(path)
            .args(arguments)
            .arg(&file)
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a log"))
            .stderr(out)
            .spawn()
            .expect("the proxy starts");
        let url = format!("http://127.0.0.1:{port}");
        let mut running = Running { url, child, log, _dir: dir };
        running.wait(port);
        running
    }

    /// One process without a master, so that ending it ends all; nothing outside `root` is
    /// written.
    fn nginx(self, port: u16, a: &str, b: &str, root: &Path) -> String {
        let root = root.display();
        let setting = self.setting();
        format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr crit;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
               access_log off;\n\
               client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
               fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
               upstream accounts {{ server {a}; server {b}; keepalive 32; }}\n\
               server {{\n\
                 listen 127.0.0.1:{port};\n\
                 location / {{\n\
                   proxy_pass http://accounts;\n\
                   proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
                   proxy_connect_timeout 1s; proxy_send_timeout 1s; proxy_read_timeout 1s;\n\
                   {setting};\n\
                 }}\n\
               }}\n\
             }}\n"
        )
    }

    /// A careful operator lets HAProxy watch the answers of live requests, too. What it retries
    /// after an answer goes to whichever server's turn it is, so it may try the same one again.
    fn haproxy(self, port: u16, a: &str, b: &str) -> String {
        let setting = self.setting();
        let watch = match self.form {
            Form::Careful => " observe layer7 error-limit 5 on-error mark-down",
            _ => "",
        };
        format!(
            "global\n  maxconn 512\n\
             defaults\n  mode http\n  timeout connect 1s\n  timeout server 1s\n  \
             timeout client 20s\n  timeout check 1s\n  retries 3\n  option redispatch\n  \
             {setting}\n\
             frontend door\n  bind 127.0.0.1:{port}\n  default_backend accounts\n\
             backend accounts\n  balance roundrobin\n  server a {a} check{watch}\n  \
             server b {b} check{watch}\n"
        )
    }

    fn envoy(self, port: u16, a: &str, b: &str) -> String {
        let setting = self.setting();
        let per_try = if self.hides() { "per_try_timeout: 1s" } else { "num_retries: 1" };
        let timeout = if self.hides() { "3s" } else { "1s" };
        let endpoint = |address: &str| {
            let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
            let address = format!("{{ address: {host}, port_value: {port} }}");
            format!("- endpoint: {{ address: {{ socket_address: {address} }} }}")
        };
        let [a, b] = [a, b].map(endpoint);
        let kind = "type.googleapis.com/envoy.extensions.filters";
        let before = "type.googleapis.com/\
                      envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
        format!(
            r#"
static_resources:
  listeners:
  - name: door
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {kind}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: door
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route:
                  cluster: accounts
                  timeout: {timeout}
                  retry_policy:
                    {setting}
                    {per_try}
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        "@type": {before}
                    host_selection_retry_max_attempts: 5
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": {kind}.http.router.v3.Router }}
  clusters:
  - name: accounts
    type: STATIC
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    outlier_detection: {{ max_ejection_percent: 50 }}
    circuit_breakers: {{ thresholds: [ {{ max_retries: 512 }} ] }}
    load_assignment:
      cluster_name: accounts
      endpoints:
      - lb_endpoints:
        {a}
        {b}
"#
        )
    }
}

/// A running proxy; ends when dropped.
pub struct Running {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    child: Child,
    log: PathBuf,
    _dir: TempDir,
}

impl Running {
    fn wait(&mut self, port: u16) {
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = self.child.try_wait().expect("a status").is_some();
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            assert!(!ended && Instant::now() < end, "the proxy does not listen:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
