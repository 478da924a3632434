//! Who is measured: each a process of its own on one core, with one worker.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Wish;
use crate::load::Target;
use crate::process::CONTENDER_CPU;

/// How late an Interlock that sheds may be.
pub const SHED_AFTER: &str = "2ms";

/// One way through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// No proxy: the generator speaks to the provider.
    Direct,
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
    /// Envoy.
    Envoy,
    /// Pingora that passes everything through.
    BarePingora,
    /// Interlock's native pass-through.
    Native,
    /// Interlock's payments API, the journal on disk.
    Durable,
    /// The same, the journal in memory.
    Memory,
    /// The same as in memory, the plugin in a process of its own.
    Apart,
    /// The payments API that sheds what it can't carry; only under overload.
    Shedding,
}

impl Contender {
    /// In the order of the tables.
    pub const ALL: [Self; 9] = [
        Self::Direct,
        Self::Nginx,
        Self::HaProxy,
        Self::Envoy,
        Self::BarePingora,
        Self::Native,
        Self::Durable,
        Self::Memory,
        Self::Apart,
    ];

    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Envoy => "Envoy",
            Self::BarePingora => "bare pingora",
            Self::Native => "Interlock, native",
            Self::Durable => "Interlock, payment",
            Self::Memory => "Interlock, payment, tmpfs",
            Self::Apart => "Interlock, payment, tmpfs, plugin apart",
            Self::Shedding => "Interlock, shedding",
        }
    }

    /// Whether what passes is a payment that Interlock itself makes.
    pub fn pays(self) -> bool {
        matches!(self, Self::Durable | Self::Memory | Self::Apart | Self::Shedding)
    }
}

/// Where every program is.
pub struct Field {
    provider: SocketAddr,
    release: PathBuf,
    scratch: PathBuf,
    programs: Vec<(Contender, PathBuf)>,
    /// Ends of the names of those that are measured; none where all are.
    only: Vec<String>,
}

/// A contender that runs; it ends when this is dropped.
pub struct Running {
    /// Who it is.
    pub contender: Contender,
    /// Its process; `None` for the direct way.
    pub pid: Option<u32>,
    /// What is asked of it.
    pub target: Target,
    child: Option<Child>,
    _folders: Vec<TempDir>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Field {
    /// Looks for the programs; a peer that is not installed is left out.
    pub fn find(wish: &Wish, provider: SocketAddr) -> Result<Self, String> {
        let release = wish.target.join("release");
        let scratch = wish.target.join("bench");
        fs::create_dir_all(&scratch).map_err(|why| format!("{}: {why}", scratch.display()))?;
        let mut folders = vec![wish.target.join("peers-proxies/envoy/_bin")];
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
        let find = |file: &str| folders.iter().map(|f| f.join(file)).find(|path| path.is_file());
        let programs = Contender::ALL.into_iter().filter_map(|contender| {
            let path = match contender {
                Contender::Direct => Some(PathBuf::new()),
                Contender::Nginx => find("nginx"),
                Contender::HaProxy => find("haproxy"),
                Contender::Envoy => find("envoy"),
                Contender::BarePingora => Some(release.join("bare-pingora")),
                _ => Some(release.join("interlock")),
            };
            Some((contender, path?))
        });
        let programs = programs.collect();
        let only = wish.only.iter().map(|name| name.to_lowercase()).collect();
        let field = Self { provider, release, scratch, programs, only };
        if field.contenders().next().is_none() {
            return Err(format!("no contender is called so here: {}", wish.only.join(", ")));
        }
        Ok(field)
    }

    /// Those that can be measured here.
    pub fn contenders(&self) -> impl Iterator<Item = Contender> {
        let wanted = |c: &Contender| {
            let name = c.name().to_lowercase();
            self.only.is_empty()
                || self.only == ["overload"]
                || self.only.iter().any(|end| name.ends_with(end))
        };
        self.programs.iter().map(|(contender, _)| *contender).filter(wanted)
    }

    /// Starts one, on its core, and waits until it listens.
    pub fn start(&self, contender: Contender) -> Result<Running, String> {
        if contender == Contender::Direct {
            let target = self.target(contender, self.provider);
            return Ok(Running { contender, pid: None, target, child: None, _folders: vec![] });
        }
        let program = if contender.pays() { Contender::Durable } else { contender };
        let (_, path) =
            self.programs.iter().find(|(c, _)| *c == program).ok_or("it is not installed")?;
        let fail = |why: std::io::Error| format!("{}: {why}", contender.name());
        let folder = TempDir::new_in(&self.scratch).map_err(fail)?;
        let address = free_address()?;
        let mut folders = Vec::new();
        let arguments = match contender {
            Contender::BarePingora => {
                vec![address.to_string(), self.provider.to_string()]
            }
            Contender::Nginx => configured(
                &folder,
                nginx(address, self.provider, folder.path()),
                &["-e", "stderr", "-c"],
            )?,
            Contender::HaProxy => {
                configured(&folder, haproxy(address, self.provider), &["-db", "-f"])?
            }
            Contender::Envoy => configured(
                &folder,
                envoy(address, self.provider),
                &["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"],
            )?,
            _ => {
                // `/dev/shm` is memory wherever there is one.
                let data = match contender {
                    Contender::Memory | Contender::Apart => {
                        TempDir::new_in("/dev/shm").map_err(fail)?
                    }
                    _ => TempDir::new_in(&self.scratch).map_err(fail)?,
                };
                let text = self.interlock(address, data.path(), contender)?;
                folders.push(data);
                configured(&folder, text, &["run", "--config"])?
            }
        };
        let log = fs::File::create(folder.path().join("log")).map_err(fail)?;
        let child = Command::new("taskset")
            .args(["-c", &CONTENDER_CPU.to_string()])
            .arg(path)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fail)?)
            .stderr(log)
            .spawn()
            .map_err(fail)?;
        let log = folder.path().join("log");
        folders.push(folder);
        let pid = child.id();
        let mut running = Running {
            contender,
            pid: Some(pid),
            target: self.target(contender, address),
            child: Some(child),
            _folders: folders,
        };
        wait(&mut running, address, &log)?;
        Ok(running)
    }

    fn interlock(
        &self,
        address: SocketAddr,
        data: &Path,
        contender: Contender,
    ) -> Result<String, String> {
        let admin = free_address()?;
        let shed = if contender == Contender::Shedding { SHED_AFTER } else { "never" };
        let home = if contender == Contender::Apart { "process" } else { "in-process" };
        let release = self.release.display();
        let provider = self.provider;
        Ok(format!(
            "[server]\nlisten = \"{address}\"\nadmin = \"{admin}\"\ndata_dir = \"{}\"\n\
             plugins_dir = \"{release}\"\nallow_unpinned = true\nworkers = 1\n\
             shed_after = \"{shed}\"\n\
             [telemetry]\nlog = \"error\"\n\
             [merchants.bench]\napi_key = \"bench_key_1\"\n\
             [accounts.checkout]\nplugin = \"checkout\"\nisolation = \"{home}\"\n\
             endpoints = {{ api = \"http://{provider}\" }}\n\
             secrets = {{ secret_key = \"sk_bench\", webhook_key = \"whk_bench\" }}\n\
             in_flight = 10000\n\
             [[routes]]\nname = \"all\"\nmatch = {{ method = \"card\" }}\n\
             candidates = [\"checkout\"]\nfailover = \"none\"\n",
            data.display()
        ))
    }

    fn target(&self, contender: Contender, address: SocketAddr) -> Target {
        let request: Rc<dyn Fn(u64) -> Vec<u8>> = match contender {
            _ if contender.pays() => Rc::new(move |_| payment(address, fresh())),
            Contender::Native => Rc::new(move |n| provider_request("/native/checkout", n)),
            _ => Rc::new(|n| provider_request("", n)),
        };
        Target { address, request, status: 201 }
    }
}

/// No key is used twice, or its first answer would be measured again.
fn fresh() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// What Interlock's plugin would send, about 700 bytes, sent by a merchant's own SDK.
fn provider_request(prefix: &str, n: u64) -> Vec<u8> {
    let metadata = "x".repeat(330);
    let body = format!(
        "{{\"source\":{{\"type\":\"id\",\"id\":\"src_bench_0000000000000000000\"}},\
         \"amount\":4900,\"currency\":\"EUR\",\"capture\":true,\"reference\":\"op{n:020}\",\
         \"payment_type\":\"Regular\",\"description\":\"Order {n}\",\
         \"processing_channel_id\":\"pc_bench\",\"metadata\":{{\"cart\":\"{metadata}\"}}}}"
    );
    format!(
        "POST {prefix}/payments HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer sk_bench\r\n\
         X-Interlock-Key: bench_key_1\r\nCko-Idempotency-Key: op{n:020}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A payment by a merchant, about as long.
fn payment(address: SocketAddr, n: u64) -> Vec<u8> {
    let metadata = "x".repeat(250);
    let body = format!(
        "{{\"amount\":4900,\"currency\":\"EUR\",\"method\":{{\"type\":\"card\",\
         \"tokens\":{{\"checkout\":\"src_bench_0000000000000000000\"}}}},\
         \"merchant_ref\":\"ord-{n}\",\"description\":\"Order {n}\",\
         \"customer\":{{\"id\":\"c_{n}\",\"country\":\"DE\"}},\
         \"metadata\":{{\"cart\":\"{metadata}\"}}}}"
    );
    format!(
        "POST /v1/payments HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer bench_key_1\r\n\
         Idempotency-Key: bench-{n}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn free_address() -> Result<SocketAddr, String> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr());
    bound.map_err(|why| format!("no free port: {why}"))
}

fn configured(folder: &TempDir, text: String, arguments: &[&str]) -> Result<Vec<String>, String> {
    // Envoy goes by the ending, the others don't care.
    let file = folder.path().join("configuration.yaml");
    fs::write(&file, text).map_err(|why| format!("{}: {why}", file.display()))?;
    let arguments = arguments.iter().map(|a| (*a).to_owned());
    Ok(arguments.chain([file.display().to_string()]).collect())
}

fn wait(running: &mut Running, address: SocketAddr, log: &Path) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        let child = running.child.as_mut();
        let ended = child.is_some_and(|child| child.try_wait().is_ok_and(|s| s.is_some()));
        if ended || Instant::now() > end {
            let log = fs::read_to_string(log).unwrap_or_default();
            return Err(format!("{} does not listen: {log}", running.contender.name()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn nginx(address: SocketAddr, provider: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
           access_log off; keepalive_requests 100000000; keepalive_timeout 600s;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
           upstream provider {{\n\
             server {provider}; keepalive 128; keepalive_requests 100000000;\n\
           }}\n\
           server {{\n\
             listen {address};\n\
             location / {{\n\
               proxy_pass http://provider; proxy_http_version 1.1;\n\
               proxy_set_header Connection \"\";\n\
             }}\n\
           }}\n\
         }}\n"
    )
}

fn haproxy(address: SocketAddr, provider: SocketAddr) -> String {
    format!(
        "global\n  maxconn 4096\n  nbthread 1\n\
         defaults\n  mode http\n  timeout connect 3s\n  timeout server 60s\n  \
         timeout client 600s\n  http-reuse always\n\
         frontend door\n  bind {address}\n  default_backend provider\n\
         backend provider\n  server a {provider}\n"
    )
}

fn envoy(address: SocketAddr, provider: SocketAddr) -> String {
    let kind = "type.googleapis.com/envoy.extensions.filters";
    let (port, upstream) = (address.port(), provider.port());
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
                route: {{ cluster: provider }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": {kind}.http.router.v3.Router }}
  clusters:
  - name: provider
    type: STATIC
    connect_timeout: 3s
    circuit_breakers: {{ thresholds: [ {{ max_connections: 4096, max_requests: 4096 }} ] }}
    load_assignment:
      cluster_name: provider
      endpoints:
      - lb_endpoints:
        - endpoint:
            address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }}
"#
    )
}
