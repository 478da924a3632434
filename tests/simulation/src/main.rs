//! `interlock-simulation simulate | retell`.

#![allow(clippy::print_stdout, reason = "this program speaks to the person who ran it")]

use interlock_simulation::simulate::{self, Wish};
use interlock_simulation::world::Unsafe;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |n: usize, or: u64| arguments.get(n).map_or(or, |a| a.parse().expect("a number"));
    if arguments.get(1).is_some_and(|a| a == "retell") {
        let (lines, broken, fold) = simulate::retell(number(2, 0), Unsafe::No);
        for line in lines {
            println!("{line}");
        }
        println!("{broken:#?} {fold:016x}");
        return;
    }
    let wish = Wish::new(number(2, 0), number(1, 1_000));
    let found = simulate::simulate(wish, &|done, s| eprintln!("{done} worlds in {s:.0} s"));
    for why in found.broken.iter().take(20) {
        println!("{why}");
    }
    println!("{:?} fold {:016x}", found.score, found.fold);
    println!(
        "{:.1} s, {:.1} cpu s, {:.0} payments a cpu-minute, {:.1} turns a payment, {:.2} faults a payment",
        found.seconds,
        found.cpu_seconds,
        found.score.payments as f64 / found.cpu_seconds * 60.0,
        found.score.turns as f64 / found.score.payments as f64,
        found.score.faults as f64 / found.score.payments as f64,
    );
}
