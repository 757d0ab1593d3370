// SPDX-License-Identifier: MPL-2.0

//! Terms of a switch through a core, there and back, with a slot that is a resource of its own.

use super::{CUTOVER, REVERSE, Stage, cutover};
use crate::common::cli::{Core, says};
use crate::common::postgres::Major;

/// The user stops writers; nothing stops those who write anyway.
const EXTERNAL: &str = "  reverse {}
  writes             = \"external\"
  guard              = false
  unpublished_writes = \"allow\"
  compare            = \"checksums\"
  forward            = \"disable\"
  sequence_margin    = 10";

fn write(stage: &Stage, cutover: &str) {
    let slot = format!(
        "resource \"neonrepl_replication_slot\" \"shop\" {{\n  name = {:?}\n  depends_on = [neonrepl_publication.shop]\n}}\n",
        stage.name
    );
    let subscription = "  create_slot = false\n  slot_name   = neonrepl_replication_slot.shop.name";
    stage.write(subscription, &format!("{slot}{cutover}"));
}

async fn slots(stage: &Stage) -> Vec<String> {
    let mine = "SELECT slot_name, active FROM pg_replication_slots WHERE database = current_database()";
    stage.pair.publisher.rows(mine).await
}

#[tokio::test]
async fn terms_hold_there_and_back_beside_a_slot_of_its_own() {
    let stage = Stage::new(Core::Terraform, Major::V16, Major::V14, "cutover_terms").await;
    stage.pair.publisher.sql("INSERT INTO tickets (what) VALUES ('one'), ('two')").await;
    write(&stage, &cutover("publisher", EXTERNAL));
    stage.workspace.apply().await;

    // Nobody is refused, and the forward stream keeps its slot.
    write(&stage, &cutover("subscriber", EXTERNAL));
    stage.workspace.apply().await;
    stage.workspace.expect_empty_plan().await;
    stage.write_and_follow("subscriber", 1).await;
    let next = stage.pair.subscriber.value::<i32>("INSERT INTO tickets (what) VALUES ('three') RETURNING id").await;
    assert_eq!(next, 13, "ten numbers are left out");
    assert_eq!(
        (stage.subscription().await, slots(&stage).await),
        (vec![format!("f|{}", stage.name)], vec![format!("{}|f", stage.name)])
    );
    let read_only = "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(stage.pair.publisher.value::<i64>(read_only).await, 0);

    // The comparison finds writes to the old side, and these do not come back.
    stage.pair.publisher.sql("UPDATE orders SET total = 2 WHERE id = 1").await;
    write(&stage, &cutover("publisher", EXTERNAL));
    says(&stage.workspace.apply_error().await, &["tables differ", "public.orders"]);
    stage.pair.publisher.sql("UPDATE orders SET total = 1 WHERE id = 1").await;
    stage.workspace.apply().await;
    stage.write_and_follow("publisher", 2).await;
    assert_eq!(stage.subscription().await, [format!("t|{}", stage.name)]);

    // The slot's own resource does not create a slot again that the cutover has dropped, not even once the
    // cutover is gone.
    write(&stage, &cutover("subscriber", REVERSE));
    stage.workspace.apply().await;
    assert_eq!(slots(&stage).await, [""; 0]);
    stage.workspace.expect_empty_plan().await;
    assert_eq!(stage.workspace.attributes(CUTOVER).await["active"], "subscriber");
    write(&stage, "");
    stage.workspace.apply().await;
    stage.workspace.expect_empty_plan().await;
    assert_eq!(slots(&stage).await, [""; 0]);
    stage.workspace.destroy().await;
}
