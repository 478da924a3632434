//! Three wrong designs of the real driver, and how soon what judges the kills finds each.
//!
//! A kill is aimed between what was done too early and the disk; where nothing is wrong yet when
//! the process dies, the ledgers say so once all should have settled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use interlock_tests::house::{House, Plan};
use serde_json::{Value, json};

use crate::autopsy::Coroner;
use crate::failpoints::{BINARY, PLACE};
use crate::scenes::{self, Scene, Stage};
use crate::shop::{self, Deal, Street};
use crate::{Closing, verdict};

/// Names the mutant.
pub const MUTANT: &str = "INTERLOCK_MUTANT";
/// A mutant that outlives so many kills survives.
const KILLS: u32 = 10;
/// How long a shop may need to pass the place.
const PATIENCE: Duration = Duration::from_secs(20);
/// A doubt whose provider is well is settled much sooner: window and rechecks are 3 s together.
const SETTLES: Duration = Duration::from_secs(8);

/// One wrong design, and where its harm is looked for.
struct Hunt {
    mutant: &'static str,
    place: &'static str,
    scene: Scene,
    /// What happens at the providers before the merchant asks again.
    then: Option<(&'static str, &'static str)>,
}

const HUNTS: [Hunt; 3] = [
    // The charge is known to nobody here; the merchant asks again, its account refuses by then,
    // and the next one charges too.
    Hunt {
        mutant: "send_before_durable",
        place: "send.authorize.after",
        scene: Scene::Card,
        then: Some(("checkout-eu", "refuse")),
    },
    Hunt {
        mutant: "acknowledge_before_durable",
        place: "told.create.after",
        scene: Scene::Card,
        then: None,
    },
    Hunt {
        mutant: "drop_late_success",
        place: "answer.authorize.before",
        scene: Scene::Card,
        then: None,
    },
];

/// Hunts each; what was found, for the report.
pub fn hunt_all() -> Vec<Value> {
    HUNTS.iter().map(Hunt::hunt).collect()
}

impl Hunt {
    fn hunt(&self) -> Value {
        let begun = Instant::now();
        let mut house = House::prepared(Plan::default());
        let (street, stage) = (Street::of(&house), Stage::new(self.scene));
        let (mut coroner, mut deals) = (Coroner::default(), Vec::new());
        let mut kills = 0;
        while kills < KILLS && coroner.wrong.is_empty() {
            kills += 1;
            let wrong = self.kill(&mut house, &street, &stage, &mut coroner, &mut deals);
            coroner.wrong.extend(wrong);
        }
        let clipped = |text: &String| text.chars().take(300).collect::<String>();
        json!({
            "name": self.mutant,
            "layer": "L3",
            "killed": !coroner.wrong.is_empty(),
            "after": format!("{kills} kills"),
            "seconds": begun.elapsed().as_secs_f64(),
            "found": coroner.wrong.iter().map(clipped).collect::<Vec<String>>(),
        })
    }

    /// One shop, one aimed kill, one recovery; what the ledgers and the merchant's book say then.
    fn kill(
        &self,
        house: &mut House,
        street: &Street,
        stage: &Stage,
        coroner: &mut Coroner,
        deals: &mut Vec<Deal>,
    ) -> Vec<String> {
        let stop = AtomicBool::new(false);
        let seed = deals.len() as u64;
        let book = std::thread::scope(|scope| {
            house.spawn_proxy_as(BINARY, &[(PLACE, self.place), (MUTANT, self.mutant)]);
            assert!(house.is_ready_within(PATIENCE), "it starts\n{}", house.log());
            // A shop that finds the door shut asks again without patience for news.
            let shop = scope.spawn(|| scenes::play(street, seed, stage, &stop));
            let _closing = Closing(&stop);
            assert!(house.is_killed_within(PATIENCE), "the place is passed: {}", self.place);
            coroner.look(house, street);
            stop.store(true, Ordering::Release);
            shop.join().expect("a shop's book")
        });
        deals.extend(book);
        if let Some((account, fault)) = self.then {
            house.fault(account, "authorize", fault);
        }
        house.spawn_proxy_as(BINARY, &[(MUTANT, self.mutant)]);
        assert!(house.is_ready_within(PATIENCE), "it starts again\n{}", house.log());
        shop::ask_again(street, deals);
        house.lift_faults();
        let (_, wrong) = verdict::judge(house, street, deals, SETTLES);
        house.kill_proxy();
        wrong
    }
}
