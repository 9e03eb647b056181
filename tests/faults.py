"""Every fault that must be survived, a line each: `python -m tests.faults`

A line names the fault, the tests that provoke it, whether all of them passed, and the message that
a user sees. The command fails where a test failed, was skipped, or is missing. `pytest` runs the
same tests among all others.
"""

import sys
import warnings
from collections import defaultdict
from typing import NamedTuple

import pytest

from minidalle.errors import MinidalleError

GOES_ON = "(no message is due: the work goes on)"


class Row(NamedTuple):
    """A fault, and the tests that provoke it: file in tests/, and names in it."""

    fault: str
    file: str
    tests: str

    @property
    def nodes(self) -> list[str]:
        return [f"tests/{self.file}.py::{test}" for test in self.tests.split()]


ROWS = [
    Row("kill -9 while saving a checkpoint", "training/test_checkpoint",
        "test_kill_at_random_moments_over_one_checkpoint"
        " test_kill_at_random_moments_in_a_directory test_kill_at_every_touch_of_the_disk"
        " test_leftovers_are_swept test_a_reader_always_sees_a_whole_checkpoint"),
    Row("kill -9 while saving a bundle", "test_files",
        "test_kill_at_random_moments_over_one_directory test_kill_at_random_moments_over_one_file"
        " test_kill_at_every_touch_of_the_disk test_kill_at_every_touch_of_one_file"
        " test_killed_between_the_two_renames"
        " test_leftovers_are_swept_and_those_of_others_left_alone"),
    Row("something else in a bundle's place", "test_files",
        "test_strangers_are_never_replaced test_a_home_directory_is_not_replaced"),
    Row("disk full for a checkpoint", "training/test_checkpoint",
        "test_disk_full test_no_space_wherever_it_strikes test_no_space_at_the_opening"),
    Row("disk full for a bundle", "test_files",
        "test_disk_full test_disk_full_for_one_file test_no_space_wherever_it_strikes"
        " test_the_disk_fails_twice"),
    Row("disk full for the small files", "cli/test_commands",
        "test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room"),
    Row("a run whose source.json is damaged", "training/test_run",
        "test_a_run_whose_source_is_damaged_says_what_to_do"),
    Row("a checkpoint truncated", "training/test_checkpoint", "test_truncated"),
    Row("a bundle truncated", "test_files", "test_truncated test_a_file_is_missing"),
    Row("a damaged bundle in a bundle's place", "test_files",
        "test_what_is_missing_is_named test_what_has_changed_is_named"),
    Row("one byte of a checkpoint flipped", "training/test_checkpoint",
        "test_one_byte_flipped test_one_byte_changed_that_no_parser_minds"),
    Row("one byte of a bundle flipped", "test_files",
        "test_one_byte_flipped test_one_bit_flipped_anywhere_in_the_manifest"),
    Row("a damaged checkpoint in a run", "training/test_checkpoint",
        "test_a_damaged_newest_is_passed_over"
        " test_a_good_checkpoint_is_not_deleted_for_a_damaged_one"),
    Row("a pickle in place of a checkpoint", "training/test_checkpoint",
        "test_a_pickle_in_disguise test_what_is_no_safetensors_file"
        " test_a_safetensors_file_of_somebody_else"),
    Row("a pickle in a bundle", "test_files",
        "test_a_pickle_in_disguise test_no_pickle_in_the_package"),
    Row("a link to itself", "test_files", "test_a_link_to_itself_is_one_line"),
    Row("a link to itself in an option", "cli/test_terminal",
        "test_a_link_to_itself_in_an_option test_a_link_to_itself_in_a_run"),
    Row("a damaged bundle in an option", "cli/test_terminal",
        "test_a_bundle_with_a_file_that_is_missing"),
    Row("a link or a pipe", "test_files",
        "test_a_link_is_not_followed test_a_fifo_does_not_hang test_only_plain_files_are_read"),
    Row("config and weights disagree", "test_bundle",
        "test_config_and_weights_disagree test_keys_that_disagree"
        " test_weights_that_do_not_fit_the_config"),
    Row("a bundle without one of its parts", "test_bundle",
        "test_a_bundle_without_one_of_its_parts test_a_config_without_one_of_the_models"),
    Row("read-only directory", "training/test_checkpoint",
        "test_a_place_that_not_even_root_can_write test_read_only_directory_fails_before_step_0"),
    Row("two writers, one run directory", "training/test_checkpoint",
        "test_two_writers test_two_writers_in_one_notebook"),
    Row("a checkpoint of another format", "training/test_checkpoint",
        "test_another_format_says_what_to_do"
        " test_a_directory_of_an_older_release_says_what_to_do"),
    Row("a bundle of another format", "test_files",
        "test_another_format_says_what_to_do test_format_1_loads_for_ever"),
    Row("a bundle of November 2026", "test_bundle", "test_old_names_load_to_the_same_weights"),
    Row("SIGINT, SIGTERM", "cli/test_commands", "test_a_signal_ends_the_step_saves_and_resumes"),
    Row("Ctrl-C while a process is made", "training/test_background",
        "test_ctrl_c_while_it_is_being_made_is_no_traceback"),
    Row("NaN or infinite loss", "training/test_trainer",
        "test_a_loss_that_is_not_finite_stops_the_run_unharmed"
        " test_an_absurd_learning_rate_is_told"),
    Row("the last good state after a NaN", "training/test_run",
        "test_what_was_reached_before_a_loss_that_is_not_finite_is_saved"),
    Row("stopped and resumed", "training/test_trainer", "test_a_resumed_run_is_bit_identical"),
    Row("a stage stopped and resumed", "training/test_run",
        "test_a_stage_that_was_stopped_goes_on_bit_for_bit"
        " test_a_crash_costs_no_more_than_the_steps_since_the_last_save"),
    Row("another number of processes", "training/test_distributed",
        "test_two_train_what_one_trains"
        " test_going_on_with_another_number_says_that_it_is_not_bit_exact"),
    Row("a process dies", "training/test_distributed", "test_a_signal_saves_and_a_death_ends_all"),
    Row("out of memory", "training/test_trainer", "test_out_of_memory_suggests_a_batch_size"),
    Row("out of memory while drawing", "cli/test_commands",
        "test_too_many_candidates_for_the_memory_is_one_line"),
    Row("device missing", "training/test_trainer", "test_a_missing_device_lists_those_there_are"),
    Row("nothing to learn from", "datasets/test_image_folder",
        "test_nothing_to_learn_from test_every_picture_is_bad"),
    Row("batch larger than the data", "training/test_run",
        "test_a_batch_larger_than_the_data_is_refused"
        " test_clip_says_when_there_are_too_few_captions"),
    Row("a batch that cannot be shared out", "training/test_run",
        "test_a_batch_that_cannot_be_shared_out_is_refused_before_any_stage"),
    Row("going on with other data", "training/test_run",
        "test_a_run_goes_on_with_what_it_began_with"),
    Row("not a picture, or truncated", "datasets/test_image_folder",
        "test_truncated_pictures_and_no_pictures_are_skipped_and_listed"
        " test_pictures_that_are_missing_pipes_or_of_another_kind"),
    Row("decompression bomb", "datasets/test_image_folder",
        "test_a_bomb_is_refused_before_it_is_decoded"),
    Row("CMYK, alpha, EXIF, grey, 16 bit", "datasets/test_image_folder",
        "test_alpha_is_laid_over_white test_transparency_by_palette_and_by_colour_key"
        " test_cmyk_and_greyscale test_exif_rotation_is_applied test_a_16_bit_ramp_stays_a_ramp"),
    Row("caption missing, empty or not UTF-8", "datasets/test_image_folder",
        "test_captions_missing_empty_or_orphaned"
        " test_a_caption_in_another_encoding_is_never_mojibake"),
    Row("a name that leads out of the folder", "datasets/test_image_folder",
        "test_a_name_that_leads_out_is_refused"
        " test_links_that_lead_out_are_refused_and_links_within_are_followed"),
    Row("an archive that leads out, or a bomb", "datasets/test_archives",
        "test_a_name_that_leads_out test_a_link test_a_bomb_is_refused_before_it_is_unpacked"
        " test_too_many_files test_a_listing_that_promises_less_than_there_is"
        " test_truncated test_one_byte_flipped test_one_byte_flipped_in_what_is_packed"
        " test_a_name_that_is_not_the_utf_8_it_claims_to_be test_a_file_and_a_folder_of_one_name"
        " test_encrypted test_no_room"),
    Row("an empty caption", "test_pipeline", "test_an_empty_caption_is_asked_for"),
    Row("a caption too long", "test_pipeline",
        "test_a_long_caption_is_cut_with_one_note test_a_cut_of_either_model_is_told_once"
        " test_many_cut_captions_are_one_line_of_evaluate_and_one_each_of_generate"),
    Row("words never seen", "test_pipeline", "test_words_never_seen_are_named"),
    Row("any script, emoji, zero width", "test_pipeline", "test_any_text_draws_something"),
    Row("a notebook that ends or hangs its kernel", "lab/test_grading",
        "test_a_cell_that_ends_hangs_or_floods_its_kernel test_nothing_is_left_running"
        " test_a_kernel_and_a_notebook_have_limits_too"),
    Row("a forged verdict", "lab/test_grading",
        "test_a_verdict_counts_only_from_the_cell_of_its_check"
        " test_a_cell_that_ends_hangs_or_floods_its_kernel"),
    Row("a notebook that is none", "lab/test_grading",
        "test_a_file_that_is_no_notebook test_what_cannot_be_read_is_in_the_table"
        " test_a_byte_order_mark_is_no_obstacle test_a_notebook_of_format_3"
        " test_names_of_any_kind"),
    Row("Ctrl-C, kill -9 while grading", "lab/test_grading",
        "test_ctrl_c_prints_the_table_so_far test_a_second_ctrl_c_does_not_cost_the_table"
        " test_kill_9_of_the_command_leaves_nothing_running"),
    # --- runs, bundles and terminals
    Row("a stranger's folder named bundle", "cli/test_terminal",
        "test_a_training_that_cannot_end_in_its_bundle_is_refused_at_once"),
    Row("a stage of another dVAE", "training/test_identity",
        "test_a_stage_that_learnt_from_another_dvae_is_refused"),
    Row("a stage of another tokenizer", "training/test_identity",
        "test_a_stage_that_learnt_from_another_tokenizer_is_refused"),
    Row("a part copied from another run", "training/test_identity",
        "test_a_part_that_was_copied_from_another_run_is_refused"
        " test_a_stage_half_way_when_its_dvae_is_exchanged"),
    Row("a byte of the dVAE, under a trained prior", "training/test_identity",
        "test_a_byte_of_the_dvae_is_changed_under_a_finished_prior"),
    Row("--init from a bundle of another text length", "training/test_identity",
        "test_a_run_starts_from_a_bundle_of_another_text_length"),
    Row("another preset in one directory", "training/test_identity",
        "test_another_preset_is_refused"),
    Row("run.json deleted, or never written", "training/test_identity",
        "test_a_run_whose_record_was_deleted"),
    Row("run.json edited, or something else there", "training/test_identity",
        "test_a_run_whose_record_was_edited test_a_record_that_is_none"),
    Row("run.json deleted, and another crop", "cli/test_data_options",
        "test_a_run_on_another_crop_whose_record_is_gone"),
    Row("a background process that dies at birth", "cli/test_terminal",
        "test_a_background_process_that_dies_at_birth_ends_in_one_line"),
    Row("a background process that dies later", "training/test_background_ends",
        "test_it_is_killed_in_the_middle_of_its_stage test_it_is_killed_while_it_writes_its_bar"),
    Row("a background process that is stopped", "training/test_background_ends",
        "test_it_is_stopped_and_the_training_ended"),
    Row("kill -9 of the parent of two", "training/test_background_ends",
        "test_the_parent_is_killed_in_the_middle_of_both"),
    Row("no process left for a second stage", "training/test_background_ends",
        "test_it_cannot_be_made"),
    Row("absurd sizes in a config", "test_hostile_bundle",
        "test_an_absurd_config_is_refused_at_once test_a_document_of_another_shape_is_refused"
        " test_words_that_are_none_are_refused"),
    Row("NaN or infinite weights", "test_hostile_bundle",
        "test_weights_that_are_not_finite_are_refused test_weights_of_another_kind_are_refused"),
    Row("parts of different trainings", "test_hostile_bundle",
        "test_parts_that_were_not_trained_together_are_refused"),
    Row("a pointer of Git LFS, a folder of links", "test_hostile_bundle",
        "test_a_pointer_of_git_lfs_says_what_it_is test_a_folder_of_links_says_how_to_copy_it"),
    Row("a bundle still in training", "test_hostile_bundle",
        "test_a_run_that_is_still_in_training_says_so"),
    Row("absurd sampling or training settings", "test_hostile_bundle",
        "test_absurd_sampling_is_refused test_absurd_training_is_refused"),
    Row("another number of threads", "training/test_trainer",
        "test_another_number_of_threads_says_that_it_is_not_bit_exact"),
    Row("SIGHUP, a closed terminal", "cli/test_terminal", "test_a_closed_terminal_saves"),
    Row("SIGUSR1", "cli/test_terminal", "test_sigusr1_saves_and_continues"),
    Row("Ctrl-C while torch is imported", "cli/test_terminal",
        "test_ctrl_c_at_the_start_is_no_traceback"),
    Row("broken pipes, closed streams, no Unicode", "cli/test_terminal",
        "test_a_broken_pipe_and_closed_streams_are_no_traceback"),
    Row("escape sequences in names", "cli/test_terminal",
        "test_escape_sequences_of_names_are_shown_as_text"),
    Row("~ in an option, no such home", "cli/test_terminal",
        "test_a_home_directory_that_does_not_exist test_a_tilde_is_expanded"),
    Row("no /dev/shm", "cli/test_terminal",
        "test_without_shared_locks_clip_is_trained_after_the_prior"),
    Row("no locks, no fsync of a directory", "cli/test_terminal",
        "test_a_file_system_without_locks_or_fsync"),
    Row("junk in the log and among the checkpoints", "training/test_identity",
        "test_a_users_own_folder_among_the_checkpoints_is_left_alone"),
    Row("progress in a log file", "cli/test_terminal", "test_plain_lines_off_a_terminal"),
    Row("options that do not go together", "cli/test_terminal",
        "test_options_that_do_not_go_together"),
    # --- data
    Row("two processes unpack one archive", "datasets/test_archives",
        "test_the_second_process_waits_for_the_first"
        " test_the_first_process_is_killed_while_the_second_waits"
        " test_two_at_once_on_a_file_system_without_locks"
        " test_files_that_vanish_while_they_are_unpacked"),
    Row("kill -9 while unpacking, and again", "datasets/test_archive_runs",
        "test_killed_half_way_and_unpacked_again"),
    Row("three processes unpack one archive", "datasets/test_archive_runs", "test_three_at_once"),
    Row("two archives of one name at once", "datasets/test_archive_runs",
        "test_two_archives_of_one_name_at_once"),
    Row("a folder that was copied half way", "datasets/test_archive_runs",
        "test_a_folder_that_has_lost_files test_files_that_were_added_to_the_folder"),
    Row("an archive that changes", "datasets/test_archive_runs",
        "test_the_archive_changes_between_two_runs"
        " test_the_archive_changes_while_it_is_unpacked"),
    Row("names in an archive from Windows", "datasets/test_archives",
        "test_names_of_an_encoding_that_is_not_stated test_backslashes_are_separators"
        " test_backslashes_that_lead_out test_a_name_in_gbk_that_leads_out"),
    Row("two names that are one file", "datasets/test_archives",
        "test_two_names_that_are_one_file"),
    Row("other pictures under the same captions", "datasets/test_folder_files",
        "test_any_change_of_pictures_or_captions_is_another_source"
        " test_another_name_or_crop_is_another_source"
        " test_the_same_pictures_elsewhere_are_the_same_source"),
    Row("absolute names in a table", "datasets/test_folder_files",
        "test_absolute_names_of_where_the_folder_was_before"
        " test_absolute_names_within_the_folder_are_its_pictures"
        " test_absolute_names_in_the_table_of_a_subfolder"),
    Row("several captions in one text", "datasets/test_captions",
        "test_each_line_of_a_text_is_a_caption test_all_captions_of_a_text_are_in_one_split"),
    Row("two columns of captions", "datasets/test_captions",
        "test_two_columns_in_use_are_refused test_a_column_that_is_empty_in_every_row_is_none"
        " test_the_user_chooses_the_column test_one_column_twice test_the_chosen_column_twice"
        " test_a_column_that_cannot_hold_captions"),
    Row("another column or crop, with --resume", "cli/test_data_options",
        "test_a_run_on_another_column_or_crop_is_refused"
        " test_the_background_process_reads_the_same_column_and_crop"),
    Row("options for a folder, without a folder", "cli/test_data_options",
        "test_an_option_for_ones_own_pictures_without_any"),
    Row("a column or a crop that there is not", "cli/test_data_options",
        "test_a_column_that_there_is_not test_a_crop_that_there_is_not"),
    Row("files that are no pictures", "datasets/test_folder_files",
        "test_only_files_of_other_kinds test_other_files_are_counted_in_one_line"),
    Row("names of another case or Unicode form", "datasets/test_captions",
        "test_case_and_unicode_form_of_the_text_file"
        " test_case_and_unicode_form_of_a_name_in_a_table"
        " test_what_fits_in_two_ways_is_listed_not_guessed"
        " test_an_exact_name_comes_before_an_alike_one"),
    Row("a huge line, text or table", "datasets/test_captions",
        "test_a_huge_line_is_refused_without_being_read"
        " test_a_long_caption_is_listed_with_its_line test_a_table_that_is_too_large"
        " test_a_text_that_is_too_large test_json_nested_in_a_long_line"
        " test_a_table_of_many_long_rows_keeps_the_captions_alone"),
    Row("long metadata in a PNG", "datasets/test_images",
        "test_long_metadata_is_no_reason_to_refuse_a_png"
        " test_long_metadata_after_the_pixels_and_beside_a_rotation"),
    Row("a JPEG of 48 or 400 megapixels", "datasets/test_images",
        "test_a_jpeg_that_is_too_large_is_refused_before_decoding"
        " test_a_phones_picture_of_48_megapixels"
        " test_a_large_jpeg_is_decoded_smaller_and_no_smaller_than_needed"
        " test_a_large_jpeg_of_another_kind"),
    Row("Parquet, Arrow, tar", "datasets/test_folder_files",
        "test_parquet_says_how_to_convert_it test_containers_say_what_to_do"),
    Row("pictures far from square", "datasets/test_images",
        "test_pad_keeps_all_on_white test_the_report_counts_what_a_crop_cuts"),
    Row("a shard that leads out, or is damaged", "datasets/test_shards",
        "test_a_name_that_leads_out test_links_and_devices test_truncated"
        " test_a_damaged_header_in_the_middle test_two_members_of_one_name test_too_much"),
    Row("emoji: no package, no room, a folder in use", "datasets/test_emoji",
        "test_a_missing_package_names_the_remedy test_nothing_is_left_of_what_ended_early"
        " test_a_folder_in_use_is_left_alone test_a_file_of_another_program_is_kept"),
    Row("a check of what cannot be read", "cli/test_data",
        "test_what_cannot_be_checked_is_one_line"),
    Row("a sheet in place of a picture", "cli/test_data",
        "test_the_sheet_is_the_same_each_time_and_replaces_only_its_like"
        " test_the_sheet_is_never_among_the_pictures"),
    # --- captions and labels
    Row("a caption that was pasted", "test_tokenizer",
        "test_what_reads_the_same_is_the_same_to_the_model test_spellings_of_other_scripts"
        " test_what_a_script_or_an_emoji_needs_is_kept test_what_cannot_be_seen_is_nothing"
        " test_to_normalise_twice_changes_nothing_more test_training_and_use_read_the_same"),
    Row("a pasted caption draws the same picture", "test_pipeline",
        "test_another_spelling_draws_the_same_picture_without_a_word"
        " test_chinese_with_spaces_draws_the_same_picture"),
    Row("marks that are cut from their letters", "test_tokenizer",
        "test_marks_stay_with_their_letters test_every_mark_of_unicode_is_known"),
    Row("a caption of 100,000 characters", "test_tokenizer",
        "test_a_very_long_caption_is_read_in_no_time_and_told_in_one_line"),
    Row("a label of 50,000 characters", "test_contact_sheet",
        "test_the_time_of_a_label_does_not_grow_with_the_square_of_its_length"),
    Row("warnings of 110 kB", "test_pipeline",
        "test_notes_on_a_very_long_caption_are_one_short_line_each"),
    Row("a script that no font here has", "test_contact_sheet",
        "test_without_a_font_one_warning_names_the_package"
        " test_other_letters_are_drawn_and_not_as_boxes"),
    Row("escape sequences in a caption", "test_pipeline",
        "test_control_characters_are_left_out_and_said_once"),
    Row("control characters in a label", "test_contact_sheet",
        "test_control_and_invisible_characters_are_no_boxes"),
    Row("markup in the playground", "lab/test_playground",
        "test_markup_in_a_caption_is_text_on_the_page"
        " test_markup_in_an_error_or_a_warning_is_text_on_the_page"
        " test_control_characters_do_not_reach_the_page"),
    Row("NaN or infinite similarity", "test_pipeline",
        "test_a_similarity_that_is_not_finite_is_refused"),
    Row("NaN or infinite logits while drawing", "test_sampling",
        "test_logits_that_are_not_finite_are_refused"),
    Row("finite weights that overflow", "test_hostile_bundle",
        "test_finite_weights_that_overflow_are_refused"),
    Row("pictures that are there already", "test_pipeline",
        "test_pictures_are_saved_one_by_one_and_nothing_is_overwritten"
        " test_pictures_that_cannot_be_saved_leave_no_half_a_file"),
]  # fmt: skip


class Recorder:
    """Notes the outcome of every test, and what an error or a warning of ours said in it."""

    def __init__(self) -> None:
        self.outcomes, self.messages, self.now = defaultdict(list), {}, ""
        said, recorder = MinidalleError.__init__, self

        def init(error, *arguments) -> None:
            recorder.messages.setdefault(recorder.now, str(arguments[0]) if arguments else "")
            said(error, *arguments)

        MinidalleError.__init__ = init
        warn = warnings.warn

        def record(message, category=None, *arguments, **options) -> None:
            if category in (None, UserWarning):
                recorder.messages.setdefault(recorder.now, str(message))
            warn(message, category, *arguments, **options)

        warnings.warn = record

    def pytest_runtest_setup(self, item) -> None:
        self.now = item.nodeid.split("[")[0]

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or not report.passed:
            self.outcomes[report.nodeid.split("[")[0]].append(report.outcome)


def main() -> int:
    recorder = Recorder()
    nodes = [node for row in ROWS for node in row.nodes]
    pytest.main(["-n", "0", "-q", "--no-header", "--tb=short", *nodes], plugins=[recorder])
    failed = 0
    for row in ROWS:
        outcomes = [o for node in row.nodes for o in recorder.outcomes[node] or ["missing"]]
        bad = [o for o in outcomes if o != "passed"]
        failed += bool(bad)
        told = next((recorder.messages[n] for n in row.nodes if recorder.messages.get(n)), GOES_ON)
        verdict = f"NOT SURVIVED: {', '.join(bad)}" if bad else "survived"
        print(f"{row.fault:36} provoked {len(outcomes):3} ways   {verdict}   {told}")
    print(f"{len(ROWS) - failed} of {len(ROWS)} faults survived")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
