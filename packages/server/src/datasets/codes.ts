/** Every finding has one of these codes; clients may rely on them. An error makes the file invalid, a warning does not. */
export const CODES = {
  // The file as a whole
  empty_file: 'error',
  not_text: 'error',
  not_json: 'error',
  single_object: 'error',
  truncated_array: 'error',
  trailing_comma: 'error',
  trailing_garbage: 'error',
  bad_array: 'error',
  file_changed: 'error',
  no_rows: 'error',
  mixed_formats: 'error',
  format_mismatch: 'error',
  byte_order_mark: 'warning',
  few_rows: 'warning',
  // A row that can't be read
  row_too_large: 'error',
  invalid_utf8: 'error',
  invalid_json: 'error',
  not_an_object: 'error',
  unknown_format: 'error',
  // A row's fields
  missing_key: 'error',
  null_value: 'error',
  wrong_type: 'error',
  empty_instruction: 'error',
  empty_conversation: 'error',
  unknown_role: 'error',
  invalid_tools: 'error',
  invalid_unicode: 'error',
  unknown_key: 'warning',
  empty_output: 'warning',
  empty_turn: 'warning',
  // A conversation's course
  no_assistant_turn: 'error',
  starts_with_assistant: 'warning',
  repeated_role: 'warning',
  late_system_turn: 'warning',
  tool_without_call: 'warning',
  ends_without_answer: 'warning',
  // Contents
  short_instruction: 'warning',
  long_output: 'warning',
  mojibake: 'warning',
  replacement_character: 'warning',
  control_characters: 'warning',
  duplicate_row: 'warning',
  duplicate_prompt: 'warning',
  duplicates_unchecked: 'warning',
} as const satisfies Record<string, 'error' | 'warning'>

export type Code = keyof typeof CODES
