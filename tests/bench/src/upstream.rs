//! A provider that answers every payment at once, as Checkout.com does, and remembers nothing: it
//! costs as little as it can, because it shares a core with the generator.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::load::Message;

/// Payments made, over all connections.
static COUNT: AtomicU64 = AtomicU64::new(1);

/// Listens on a free port.
pub async fn open() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.map_err(|why| format!("the provider can't listen: {why}"))?;
    let address = listener.local_addr().map_err(|why| why.to_string())?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream));
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream) {
    let mut buffer = Vec::with_capacity(4_096);
    loop {
        let Some(message) = Message::request(&buffer) else {
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        // A number that came twice would be another payment's, and be written with care.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let body = answer(&buffer[message.body.clone()], count);
        let head = format!(
            "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
        buffer.drain(..message.body.end);
    }
}

/// An approved payment that repeats the reference, about 600 bytes.
fn answer(body: &[u8], count: u64) -> String {
    let reference = member(body, "\"reference\":\"", '"').unwrap_or("none");
    let amount = member(body, "\"amount\":", ',').unwrap_or("4900");
    format!(
        "{{\"id\":\"pay_bench{count:020}\",\"action_id\":\"act_bench{count:020}\",\
         \"amount\":{amount},\"currency\":\"EUR\",\"approved\":true,\"status\":\"Authorized\",\
         \"auth_code\":\"643381\",\"response_code\":\"10000\",\
         \"response_summary\":\"Approved\",\"risk\":{{\"flagged\":false}},\
         \"source\":{{\"id\":\"src_nwd3m4in3hkuddfpjsaevunhdy\",\"type\":\"card\",\
         \"last4\":\"4242\",\"bin\":\"424242\",\"expiry_month\":12,\"expiry_year\":2031,\
         \"scheme\":\"Visa\",\"issuer\":\"A bank\",\"issuer_country\":\"DE\"}},\
         \"processed_on\":\"2026-01-01T00:00:00Z\",\"reference\":\"{reference}\",\
         \"scheme_id\":\"489341065491658\",\"eci\":\"05\"}}"
    )
}

fn member<'b>(body: &'b [u8], name: &str, end: char) -> Option<&'b str> {
    let text = std::str::from_utf8(body).ok()?;
    let rest = &text[text.find(name)? + name.len()..];
    Some(&rest[..rest.find(end)?])
}
