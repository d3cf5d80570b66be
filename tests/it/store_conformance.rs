//! One suite over both databases: what the `Store` promises, case by case, each with a database of its own.

mod answers;
mod audit;
mod enrolment;
mod explain;
mod farm;
pub(crate) mod ledger;
mod presence;
mod queue;
mod read;
mod refusals;
mod report;
mod requests;
mod rollouts;
mod schema;
mod settle;
mod submit;
mod token;
mod trouble;

/// Makes a test on MariaDB and one on SQLite of each case.
macro_rules! conformance {
    ($($module:ident: $($case:ident),+;)+) => {
        mod on_mysql {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() -> anyhow::Result<()> {
                    let ledger = super::ledger::Ledger::on_mysql().await?;
                    super::$module::$case(&ledger).await?;
                    ledger.drop().await
                }
            )+)+
        }
        mod on_sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() -> anyhow::Result<()> {
                    let ledger = super::ledger::Ledger::on_sqlite().await?;
                    super::$module::$case(&ledger).await?;
                    ledger.drop().await
                }
            )+)+
        }
    };
}

conformance! {
    submit:
        tells_new_from_repeat_and_conflict,
        keeps_large_batches,
        accepts_an_identifier_once_however_many_try,
        keeps_identifiers_and_payloads_to_the_byte,
        adds_approvals_while_a_task_waits,
        freezes_once,
        freezes_a_fleet,
        keeps_what_endpoints_had_to_be,
        publishes_what_has_not_moved_on;
    report:
        moves_rows_counts_and_task,
        ignores_repeats_and_stragglers,
        counts_exactly_with_several_appliers_of_one_task,
        counts_exactly_with_reports_of_many_tasks_crossing,
        adopts_only_into_open_frozen_tasks_without_list,
        adopts_nobody_who_can_have_got_no_copy,
        believes_only_who_has_it,
        ends_what_was_stopped_unasked,
        leaves_a_canceled_task_canceled,
        leaves_an_expired_task_expired,
        keeps_what_an_endpoint_says,
        keeps_what_handlers_log,
        keeps_the_first_answer_that_came_after_the_end,
        tells_that_a_task_ran_twice;
    answers:
        groups_equal_answers,
        pages_through_the_members_of_a_group,
        groups_what_was_lost_and_leaves_out_what_has_no_digest;
    requests:
        records_a_request_once,
        goes_through_its_steps,
        tries_again_and_keeps_what_failed,
        keeps_a_hundred_attempts,
        fails_at_once_or_after_what_is_to_be_done,
        is_moved_by_one_of_many,
        merges_extras_alike_whichever_process_moves_a_request,
        adds_up,
        takes_what_producers_insert,
        cancels_and_forgets;
    rollouts:
        records_a_rollout_once,
        goes_wave_by_wave_with_frozen_batches,
        halts_over_its_budget_until_somebody_decides,
        keeps_what_is_not_healthy_failed,
        rolls_back_what_has_changed,
        takes_back_what_was_not_received,
        stops_what_is_in_flight_where_that_is_asked_for,
        starts_so_many_of_a_failure_domain,
        probes_a_wave_before_the_next,
        adds_rollouts_up,
        forgets_rollouts_that_ended_long_ago,
        tells_how_long_rollouts_wait,
        waits_for_who_is_away_and_starts_them_when_they_return,
        moves_an_endpoint_in_one_rollout_of_a_lane_at_a_time,
        leaves_to_a_newer_rollout_what_it_has_started,
        rolls_back_nothing_that_a_newer_rollout_has_started,
        catches_up_until_a_newer_rollout_of_the_subject_begins,
        puts_what_has_not_begun_into_other_waves,
        a_rollout_is_moved_by_one_of_many;
    queue:
        gives_the_best_first,
        gives_each_once_and_never_more_than_fits,
        gives_new_ones_at_once_to_who_has_room,
        gives_nothing_at_once_that_has_to_wait,
        gives_at_once_and_in_turn_no_more_than_fits,
        takes_back_what_a_worker_leaves,
        takes_back_what_another_memory_had,
        one_of_a_key_waits,
        one_of_a_key_waits_however_many_come,
        drops_what_is_too_late,
        keeps_limits,
        pauses,
        begins_no_sooner_than_asked,
        cancels_what_waits_and_what_runs,
        tells_what_is_to_be_followed,
        costs_the_same_however_many_wait,
        remembers_how_far_schedules_are,
        remembers_which_schedules_are_paused;
    explain:
        explains_how_a_task_stands_at_endpoints,
        explains_how_a_task_waits,
        explains_at_the_same_cost_however_many_wait;
    settle:
        claims_each_due_task_once,
        claims_again_when_a_lease_runs_out,
        claims_what_waits_behind_a_row_that_cannot_be_read,
        leaves_what_a_cancel_has_set_since,
        does_not_wait_for_a_locked_task,
        settles_by_the_state_it_finds,
        gives_up_open_rows,
        cancels_once,
        gives_up_what_a_cancel_left_open,
        forgets_only_what_has_ended;
    presence:
        keeps_what_endpoints_say_of_themselves,
        tells_who_is_away,
        keeps_groups,
        adds_up_throughput,
        welcomes_whoever_is_new,
        tells_a_farewell_from_a_silence,
        forgets_endpoints,
        lets_in_again_who_has_not_gone,
        lets_nobody_in_by_what_was_said_before_a_goodbye,
        thinks_nobody_there_for_ever,
        fences_a_second_memory_of_a_name,
        knows_what_all_who_are_there_read,
        hands_a_name_over_to_who_stands_by,
        lists_endpoints_by_name,
        tells_how_the_fleet_stands,
        survives_crossing_presences,
        tells_why_a_type_is_refused,
        tells_how_far_clocks_are_off,
        counts_endpoints_that_their_stop_file_stops;
    read:
        finds_by_id_and_by_identifier,
        lists_newest_first_by_cursor,
        lists_by_filter,
        sweeps_what_a_filter_means,
        tells_what_is_missing,
        tells_what_is_owed,
        tells_how_each_endpoint_stands,
        counts_open_tasks,
        tells_times_within_four_digits,
        adds_up_what_was_accepted,
        reads_by_key_however_much_history_there_is;
    enrolment:
        gives_an_invitation_out_once,
        takes_nothing_of_what_was_revoked,
        bars_restricted_endpoints_from_types_they_were_not_invited_for,
        notes_who_comes_in_as_another;
    audit:
        chains_what_was_done,
        chains_what_several_processes_do_at_once,
        never_changes_the_audit_log,
        accounts_for_submissions_once;
    token:
        keeps_tokens_by_name,
        records_what_was_done_to_tokens_with_it,
        ends_sessions_with_their_token,
        gives_each_name_and_each_secret_once,
        forgets_what_was_revoked;
    farm:
        keeps_workers_and_tasks,
        shows_jobs_and_tasks,
        hands_out_in_turn,
        hands_each_task_to_one_worker,
        keeps_an_offer_for_a_while,
        takes_back_from_who_is_gone,
        removes_a_worker_with_what_it_has,
        judges_failures,
        keeps_what_was_given_out_since_the_server_was_asked,
        queues_updates_in_their_order,
        lets_one_manager_push,
        a_choice_costs_the_same_however_many_tasks_there_are;
    schema:
        migrates_once_when_three_start_together,
        refuses_a_schema_that_does_not_fit,
        goes_down_and_up_again,
        resets_everything,
        is_claimed_by_one_at_a_time,
        tells_the_time;
    trouble:
        outlives_callers_that_go_away,
        outlives_deadlocks,
        outlives_long_locks,
        outlives_lost_connections,
        reports_a_row_it_cannot_read;
}
