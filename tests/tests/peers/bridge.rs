//! Stands between our plugin and a Stripe that others wrote, and makes up for what that one lacks.
//!
//! It changes as little as it can, and everything that it changes is here, because what it adds
//! the other one does not judge: parameters that are withheld, what a payment's answer is completed
//! with, and the type of a refusal. Refunds pass untouched in both directions.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::Url;
use serde_json::{Value, json};

/// Parameters that the other one refuses because it does not know them.
const WITHHELD: [&str; 4] =
    ["confirmation_method", "error_on_requires_action", "return_url", "cancellation_reason"];

/// The bridge. It serves until the process ends.
pub struct Bridge {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    desk: Arc<Mutex<Desk>>,
}

struct Desk {
    upstream: String,
    loses: Option<String>,
    passed: Vec<String>,
}

struct Asked {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    form: Vec<(String, String)>,
}

impl Bridge {
    /// A bridge on a free port to this origin.
    pub fn to(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let desk = Desk { upstream: upstream.to_owned(), loses: None, passed: Vec::new() };
        let desk = Arc::new(Mutex::new(desk));
        let shared = Arc::clone(&desk);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let desk = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &desk));
            }
        });
        Self { address, desk }
    }

    /// Answers the next request whose path ends so with a 500, after it was carried out.
    pub fn lose(&self, path: &str) {
        lock(&self.desk).loses = Some(path.to_owned());
    }

    /// `METHOD PATH` of everything that was asked, in order.
    pub fn passed(&self) -> Vec<String> {
        lock(&self.desk).passed.clone()
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request of a connection, which then ends.
fn serve(stream: &TcpStream, desk: &Mutex<Desk>) -> Option<()> {
    let asked = receive(stream)?;
    let path = asked.target.split('?').next()?.to_owned();
    let upstream = {
        let mut desk = lock(desk);
        desk.passed.push(format!("{} {path}", asked.method));
        desk.upstream.clone()
    };
    let (status, answer) = pass(&upstream, &path, asked);
    let mut desk = lock(desk);
    let lost = desk.loses.take_if(|end| path.ends_with(end.as_str())).is_some();
    let (status, answer) =
        if lost { (500, json!({ "error": { "type": "api_error" } })) } else { (status, answer) };
    let body = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut writer = stream;
    writer.write_all(head.as_bytes()).ok()?;
    writer.write_all(body.as_bytes()).ok()
}

fn receive(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok()?;
        let Some((name, value)) = field.trim_end().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        match name.as_str() {
            "content-length" => length = value.parse().ok()?,
            "host" | "connection" | "accept-encoding" => {}
            _ => headers.push((name, value)),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let form = Url::parse(&format!("http://x/?{}", String::from_utf8(body).ok()?)).ok()?;
    let form = form.query_pairs().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    Some(Asked { method, target, headers, form })
}

fn pass(upstream: &str, path: &str, mut asked: Asked) -> (u16, Value) {
    asked.form.retain(|(name, _)| !WITHHELD.contains(&name.as_str()));
    if let Some(payment) = path.strip_suffix("/capture") {
        // It knows no metadata of a capture, so they are written into the payment before.
        let (metadata, form) =
            asked.form.into_iter().partition(|(name, _)| name.starts_with("metadata["));
        asked.form = form;
        send(upstream, "POST", payment, &asked.headers, &metadata);
    }
    let told = send(upstream, &asked.method, &asked.target, &asked.headers, &asked.form);
    let (status, mut answer) = told;
    if answer["object"] == "payment_intent" {
        complete(&mut answer);
    }
    if status == 402 {
        answer["error"]["type"] = "card_error".into();
    }
    (status, answer)
}

/// What is held and taken, from the charge that it shows: it tells of no sums of the payment's.
/// What it lets go at a capture it shows as a refund of the charge, without a payment.
fn complete(payment: &mut Value) {
    let charge = &payment["latest_charge"];
    let let_go = |refund: &&Value| refund["payment_intent"].is_null();
    let refunds = charge["refunds"]["data"].as_array().into_iter().flatten().filter(let_go);
    let rest: i64 = refunds.filter_map(|refund| refund["amount"].as_i64()).sum();
    let amount = charge["amount"].as_i64().filter(|_| charge["status"] == "succeeded");
    let amount = amount.unwrap_or(0);
    let captured = charge["captured"] == true;
    let held = payment["status"] == "requires_capture";
    payment["amount_received"] = json!(if captured { amount - rest } else { 0 });
    payment["amount_capturable"] = json!(if held { amount } else { 0 });
}

fn send(
    upstream: &str,
    method: &str,
    target: &str,
    headers: &[(String, String)],
    form: &[(String, String)],
) -> (u16, Value) {
    let mut body = Url::parse("http://x").unwrap();
    body.query_pairs_mut().extend_pairs(form);
    let body = body.query().unwrap_or_default().as_bytes().to_vec();
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build();
    let mut request =
        ureq::http::Request::builder().method(method).uri(format!("{upstream}{target}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = ureq::Agent::from(agent).run(request.body(body).unwrap()).unwrap();
    let status = answer.status().as_u16();
    let text = answer.body_mut().read_to_string().unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}
