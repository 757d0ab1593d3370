// SPDX-License-Identifier: MPL-2.0

//! A subscription whose publications send the rows of a tree under other names than before, or under two.

use crate::common::cli::{Core, Run, Workspace, says};
use crate::common::postgres::Major;
use crate::publication_readers::{TREE, WRITE_PARTED, Writes, nothing_is_lost};
use crate::replication::Pair;

/// The same names without a tree.
const FLAT: &str = "
    CREATE TABLE parted (id int, region text, PRIMARY KEY (id, region));
    CREATE TABLE parted_eu (LIKE parted INCLUDING ALL);
    CREATE TABLE parted_us (LIKE parted INCLUDING ALL);";

const VERSIONS: [(Core, Major, Major); 3] = [
    (Core::OpenTofu, Major::V14, Major::V14),
    (Core::Terraform, Major::V16, Major::V16),
    (Core::OpenTofu, Major::V18, Major::V18),
];

/// A tree with rows on the publisher, published with its partitions (`leaves`) and under its root (`root`).
async fn stage(prefix: &str, from: Major, to: Major, there: &str) -> Pair {
    let pair = Pair::new(from, to, prefix).await;
    pair.publisher.sql(TREE).await;
    pair.subscriber.sql(there).await;
    pair.publisher
        .sql(
            "INSERT INTO parted VALUES (1, 'eu'), (2, 'us'); CREATE PUBLICATION leaves FOR TABLE parted; \
             CREATE PUBLICATION root FOR TABLE parted WITH (publish_via_partition_root = true)",
        )
        .await;
    pair
}

fn write(workspace: &Workspace, pair: &Pair, publications: &str, arguments: &str) {
    let config = format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{}\"\n  publications = [{publications}]\n  \
         wait_for_initial_sync = true\n  {arguments}\n}}\n",
        pair.subscriber.name
    );
    workspace.write("main.tf", &config);
}

async fn read_by(pair: &Pair) -> Vec<String> {
    let query = "SELECT subpublications FROM pg_subscription \
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    pair.subscriber.rows(query).await
}

/// Checks that the plan and the apply are refused with these words, and the subscription is unchanged.
async fn refuses(workspace: &Workspace, pair: &Pair, words: &[&str]) {
    let before = read_by(pair).await;
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    says(&plan, words);
    says(&plan, &["Nothing was changed."]);
    says(&workspace.apply_error().await, words);
    assert_eq!(read_by(pair).await, before);
}

async fn plans(workspace: &Workspace, code: i32, words: &[&str]) -> Run {
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(code), "{}", plan.text());
    says(&plan, words);
    plan
}

/// Before 16 a new subscription would copy the tree twice; since then it has the root.
#[tokio::test]
async fn publications_that_disagree_about_a_root_copy_it_once() {
    for (core, from, to) in VERSIONS {
        let pair = stage("twice", from, to, TREE).await;
        let workspace = pair.workspace(core).await;
        write(&workspace, &pair, "\"leaves\", \"root\"", "");
        if from < Major::V16 {
            let twice = "rows of public.parted_eu, public.parted_us would be copied twice: as its own, and as those of public.parted";
            refuses(&workspace, &pair, &[twice, "publish_via_partition_root"]).await;
            assert_eq!(pair.slots().await, [""; 0]);
            continue;
        }
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        pair.publisher.sql("INSERT INTO parted VALUES (3, 'eu')").await;
        nothing_is_lost(&pair, "parted").await;
        workspace.destroy().await;
    }
}

/// A second publication that sends the root joins a subscription that has the partitions.
#[tokio::test]
async fn a_root_joins_the_partitions_of_a_subscription_without_a_second_copy() {
    for (core, from, to) in VERSIONS {
        let pair = stage("second_root", from, to, TREE).await;
        let workspace = pair.workspace(core).await;
        write(&workspace, &pair, "\"leaves\"", "");
        workspace.apply().await;
        let moves = "rows of public.parted_eu, public.parted_us would arrive under the name of public.parted";
        for publications in ["\"leaves\", \"root\"", "\"root\""] {
            write(&workspace, &pair, publications, "");
            refuses(&workspace, &pair, &[moves, "holds rows", "set copy_data = false in the same apply"]).await;
            write(&workspace, &pair, publications, "copy_data = false\n  enabled = false");
            refuses(&workspace, &pair, &[moves, "disabled subscription adds none"]).await;
        }
        let writes = Writes::begin(&pair.publisher, WRITE_PARTED).await;
        write(&workspace, &pair, "\"leaves\", \"root\"", "copy_data = false");
        workspace.apply().await;
        writes.end().await;
        nothing_is_lost(&pair, "parted").await;
        workspace.expect_empty_plan().await;
        // And back: one of the two leaves.
        write(&workspace, &pair, "\"leaves\"", "copy_data = false");
        let writes = Writes::begin(&pair.publisher, &WRITE_PARTED.replace('$', "(1000000 + $)")).await;
        workspace.apply().await;
        writes.end().await;
        nothing_is_lost(&pair, "parted").await;
        workspace.destroy().await;
    }
}

/// If the subscriber has separate tables, the rows must be copied into the other one.
#[tokio::test]
async fn rows_are_not_left_in_the_tables_that_they_came_into() {
    let pair = stage("flat", Major::V16, Major::V18, FLAT).await;
    let workspace = pair.workspace(Core::OpenTofu).await;
    write(&workspace, &pair, "\"leaves\"", "");
    workspace.apply().await;
    write(&workspace, &pair, "\"root\"", "copy_data = false");
    refuses(&workspace, &pair, &["are in public.parted_eu, public.parted_us", "Set copy_data = true"]).await;
    write(&workspace, &pair, "\"root\"", "");
    workspace.apply().await;
    nothing_is_lost(&pair, "parted").await;
    workspace.destroy().await;
}

/// The publication was changed by somebody else.
#[tokio::test]
async fn a_root_that_has_taken_the_place_of_its_partitions_already_is_told_with_what_is_lost() {
    for (core, from, to) in [(Core::OpenTofu, Major::V15, Major::V17), (Core::Terraform, Major::V18, Major::V16)] {
        let pair = stage("turned", from, to, TREE).await;
        let workspace = pair.workspace(core).await;
        write(&workspace, &pair, "\"leaves\"", "");
        workspace.apply().await;
        pair.publisher.sql("ALTER PUBLICATION leaves SET (publish_via_partition_root = true)").await;
        let arrives = "rows of public.parted_eu, public.parted_us now arrive under the name of public.parted";
        refuses(&workspace, &pair, &[arrives, "never arrives", "Set copy_data = false"]).await;
        write(&workspace, &pair, "\"leaves\"", "copy_data = false");
        plans(&workspace, 2, &["Warning", arrives, "Compare the tables afterwards"]).await;
        workspace.apply().await;
        pair.publisher.sql("INSERT INTO parted VALUES (3, 'eu')").await;
        pair.wait_for_rows("SELECT region FROM parted WHERE id = 3", &["eu"]).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

/// Partitions join a tree and leave it.
#[tokio::test]
async fn partitions_that_come_and_go_are_told_of_where_rows_can_get_lost() {
    for (core, from, to) in [(Core::Terraform, Major::V14, Major::V18), (Core::OpenTofu, Major::V18, Major::V15)] {
        let pair = stage("come_go", from, to, TREE).await;
        let workspace = pair.workspace(core).await;
        write(&workspace, &pair, "\"leaves\"", "");
        workspace.apply().await;
        let asia = "CREATE TABLE parted_asia (id int, region text, PRIMARY KEY (id, region))";
        pair.publisher.sql(&format!("{asia}; INSERT INTO parted_asia VALUES (7, 'asia')")).await;
        pair.subscriber.sql(asia).await;
        let attach = "ALTER TABLE parted ATTACH PARTITION parted_asia FOR VALUES IN ('asia')";
        for side in [&pair.publisher, &pair.subscriber] {
            side.sql(attach).await;
        }
        write(&workspace, &pair, "\"leaves\"", "copy_data = false");
        let left_out = "existing rows of public.parted_asia are not copied, because copy_data = false";
        plans(&workspace, 2, &[left_out, "was skipped"]).await;
        write(&workspace, &pair, "\"leaves\"", "");
        workspace.apply().await;
        nothing_is_lost(&pair, "parted").await;
        workspace.expect_empty_plan().await;

        pair.publisher.sql("ALTER TABLE parted DETACH PARTITION parted_asia").await;
        let gone = "no longer receives anything under the name of public.parted_asia";
        plans(&workspace, 0, &["Warning", gone, "detached", "change refresh_triggers"]).await;
        write(&workspace, &pair, "\"leaves\"", "refresh_triggers = { asia = \"gone\" }");
        workspace.apply().await;
        let plan = plans(&workspace, 0, &[]).await;
        assert!(!plan.flat().contains(gone), "{}", plan.text());
        workspace.destroy().await;
    }
}
