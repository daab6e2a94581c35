//! What `cargo xtask bench` measures others by: connect, TLS, SCRAM and one statement, again and again in one process,
//! without Lambda and without AWS. Prints one line of JSON for each time: wall and CPU time in nanoseconds.

use std::io::Write as _;
use std::time::Instant;

use access_postgres::{Endpoint, Login, Password, TlsSettings, TrustedRoots, connect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name: &str| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    let times: usize = variable("BENCH_TIMES")?.parse()?;
    let role = variable("BENCH_ROLE")?;
    let endpoint = Endpoint {
        host: variable("BENCH_HOST")?,
        port: variable("BENCH_PORT")?.parse()?,
        database: variable("BENCH_DATABASE")?,
    };
    let roots = std::fs::read_to_string(variable("BENCH_CA")?)?;
    let tls = TlsSettings::verify_full(TrustedRoots::from_pem(&roots)?)?;
    let login = Login::with_password(
        variable("BENCH_USER")?,
        Password::new(variable("BENCH_PASSWORD")?),
    );
    let mut out = std::io::stdout();
    for _ in 0..times {
        let (started, cpu_before) = (Instant::now(), cpu_nanos()?);
        let connection = connect(&endpoint, &login, &tls).await?;
        let closed = connection.close_login(&role).await?;
        connection.end().await;
        let (wall, cpu) = (started.elapsed().as_nanos(), cpu_nanos()? - cpu_before);
        writeln!(
            out,
            r#"{{"wall_ns":{wall},"cpu_ns":{cpu},"closed":{closed}}}"#
        )?;
    }
    Ok(())
}

/// What this thread, the only one, has run so far
/// (<https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat>).
fn cpu_nanos() -> Result<u64, Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let first = text
        .split_whitespace()
        .next()
        .ok_or("empty /proc/self/schedstat")?;
    Ok(first.parse()?)
}
