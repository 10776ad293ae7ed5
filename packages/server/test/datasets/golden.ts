import type { Code } from '../../src/datasets/codes.ts'
import { alpacaRows, type check, lines, turn } from './helpers.ts'

export interface Golden {
  code: Code
  /** The first line of `errors` or `warnings` that this code makes. */
  says: string | RegExp
  file: Buffer | string
  field?: string
  options?: Parameters<typeof check>[1]
}

export const good = { instruction: 'Name the three primary colours.', output: 'Red, yellow and blue.' }
export const talk = (...turns: unknown[]) => lines({ conversations: turns })
const chats = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ conversations: [turn('human', `Hi ${i}`), turn('gpt', 'Hello')] }))
const latin1 = (text: string) => Buffer.from(text, 'latin1')
export const words = (count: number) => Array.from({ length: count }, () => 'word').join(' ')

/** At least one file for every code, and what is said about it. */
export const GOLDEN: Golden[] = [
  // The file as a whole
  { code: 'empty_file', file: '', says: 'The file is empty: it must hold at least one row' },
  { code: 'empty_file', file: ' \n\r\n\t ', says: 'The file is empty: it must hold at least one row' },
  { code: 'not_text', file: Buffer.from([0x1f, 0x8b, 8, 0]), says: 'The file is gzip-compressed: unpack it first' },
  { code: 'not_text', file: 'PAR1....', says: 'The file is a Parquet file: export it as JSON Lines' },
  { code: 'not_text', file: Buffer.from('\ufeff[]', 'utf16le'), says: 'The file is UTF-16 text: save it as UTF-8' },
  {
    code: 'not_text',
    file: Buffer.from('[{}]', 'utf16le'),
    says: 'The file looks like UTF-16 text or binary data: save it as UTF-8 text',
  },
  {
    code: 'not_json',
    file: '\ninstruction,output\n',
    says: 'Line 2: The file starts with "i"; it must start with "[" (a JSON array of rows) or "{" (JSON Lines: one row a line)',
  },
  {
    code: 'single_object',
    file: JSON.stringify(good, null, 2),
    says: 'Line 1: The file is one JSON object over several lines; it must be an array of rows, [{…}, {…}], or JSON Lines with one row a line',
  },
  {
    code: 'truncated_array',
    file: `[\n${JSON.stringify(good)},\n{"instruction": "Name`,
    says: 'Line 3: The file ends inside sample 1, which starts on line 3, without the closing "]" of the array: it was cut off',
  },
  { code: 'truncated_array', file: `[${JSON.stringify(good)}`, says: /^Line 1: The file ends after sample 0, without/ },
  { code: 'truncated_array', file: '[', says: /^Line 1: The file ends before the first row, without/ },
  {
    code: 'trailing_comma',
    file: `[${JSON.stringify(good)},\n]`,
    says: 'Line 2: A comma comes before the closing "]": remove it',
  },
  {
    code: 'trailing_garbage',
    file: `[${JSON.stringify(good)}]\n\n[]`,
    says: 'Line 3: After the closing "]" comes "[": a file holds one array only',
  },
  {
    code: 'bad_array',
    file: `[${JSON.stringify(good)}\n${JSON.stringify(good)}]`,
    says: 'Line 2: After sample 0 a "," or "]" is expected, not "{": a comma is missing between two rows',
  },
  { code: 'bad_array', file: '[,{}]', says: 'Line 1: A row is expected before this comma (sample 0)' },
  { code: 'no_rows', file: '[ ]', says: 'The file holds no rows' },
  {
    code: 'mixed_formats',
    file: lines(good, good) + talk(turn('human', 'Hi'), turn('gpt', 'Hello')),
    says: 'The file mixes formats: 2 rows of alpaca (instruction and output; the first is sample 0, line 1) and 1 row of sharegpt (conversations with from and value; the first is sample 2, line 3). One file, one format',
  },
  {
    code: 'format_mismatch',
    file: lines(good),
    options: { asked: 'sharegpt' },
    says: 'The format asked for is sharegpt, but this is alpaca: 1 of 1 rows have instruction and output; the file is JSON Lines. Ask for alpaca, or leave the format out',
  },
  {
    code: 'byte_order_mark',
    file: `\ufeff${lines(good)}`,
    says: 'The file starts with a byte order mark, which was skipped',
  },
  { code: 'few_rows', file: lines(...alpacaRows(9)), says: 'Only 9 rows: a model needs more to learn from' },
  // A row that can't be read
  {
    code: 'row_too_large',
    file: lines({ ...good, output: 'x'.repeat(500) }, good),
    options: { maxRowBytes: 400 },
    says: 'Sample 0 (line 1): The row is longer than 400 bytes',
  },
  {
    code: 'invalid_utf8',
    file: Buffer.concat([latin1(lines(good)), latin1('{"instruction": "Où est le café?", "output": "Là."}\n')]),
    says: 'Sample 1 (line 2): Not valid UTF-8: byte 0xF9 after "ruction\\": \\"O" (18 bytes into the row); save the file as UTF-8',
  },
  {
    code: 'invalid_json',
    file: `${lines(good)}{"instruction": "Why?", output: 3}\n`,
    says: /^Sample 1 \(line 2\): Not valid JSON: .* at line 2, column 25$/,
  },
  {
    code: 'invalid_json',
    file: `[\n${JSON.stringify(good)},\n{'a': 1}]`,
    says: /^Sample 1 \(line 3\): Not valid JSON: /,
  },
  {
    code: 'invalid_json',
    file: `${lines(good).trim()},\n`,
    says: /^Sample 0 \(line 1\): Not valid JSON: .*; JSON Lines has no comma at the end of a line$/,
  },
  {
    code: 'invalid_json',
    file: `${lines(good)}{"instruction": "Why`,
    says: /^Sample 1 \(line 2\): Not valid JSON: .*; the file may have been cut off here$/,
  },
  {
    code: 'not_an_object',
    file: `[${JSON.stringify(good)}, "text"]`,
    says: 'Sample 1 (line 1): The row is a string, not an object; Alpaca needs instruction and output, ShareGPT conversations, OpenAI messages; plain text needs prompt and completion, or text',
  },
  { code: 'not_an_object', file: '[12, null, [1]]', says: /^Sample 0 \(line 1\): The row is a number, not an object/ },
  {
    code: 'unknown_format',
    file: lines({ question: 'Why?', answer: 'Because.' }),
    says: 'Sample 0 (line 1): The row has keys question, answer; Alpaca needs instruction and output, ShareGPT conversations, OpenAI messages; plain text needs prompt and completion, or text (rename "question" → "instruction", "answer" → "output"?)',
  },
  { code: 'unknown_format', file: lines({}), says: /^Sample 0 \(line 1\): The row has no keys; Alpaca needs/ },
  // A row's fields
  {
    code: 'missing_key',
    file: lines({ output: 'Red.' }),
    field: 'instruction',
    says: 'Sample 0 (line 1): Missing "instruction"',
  },
  {
    code: 'missing_key',
    file: lines({ instruction: 'Name a colour.', response: 'Red.' }),
    field: 'output',
    says: 'Sample 0 (line 1): Missing "output"; it has "response": rename it?',
  },
  {
    code: 'missing_key',
    file: talk(turn('human', 'Hi'), { from: 'gpt', valeu: 'Hello' }),
    field: 'conversations[1].value',
    says: 'Sample 0 (line 1): Missing "conversations[1].value"; it has "valeu": rename it?',
  },
  {
    code: 'null_value',
    file: lines({ ...good, output: null }),
    field: 'output',
    says: 'Sample 0 (line 1): "output" is null; it must be a string',
  },
  {
    code: 'null_value',
    file: lines({ messages: null }),
    field: 'messages',
    says: /"messages" is null; it must be an array of turns$/,
  },
  {
    code: 'wrong_type',
    file: lines({ ...good, output: 3 }),
    field: 'output',
    says: 'Sample 0 (line 1): "output" must be a string, not a number',
  },
  {
    code: 'wrong_type',
    file: lines({ ...good, input: ['a'] }),
    field: 'input',
    says: /"input" must be a string, not an array$/,
  },
  {
    code: 'wrong_type',
    file: lines({ ...good, history: 'a' }),
    field: 'history',
    says: /"history" must be an array of \[user, assistant\] pairs$/,
  },
  {
    code: 'wrong_type',
    file: lines({ ...good, history: [['a']] }),
    field: 'history[0]',
    says: /"history\[0\]" must be a pair: \[user, assistant\]$/,
  },
  {
    code: 'wrong_type',
    file: lines({ conversations: 'a' }),
    field: 'conversations',
    says: /must be an array of turns, not a string$/,
  },
  {
    code: 'wrong_type',
    file: talk('Hi'),
    field: 'conversations[0]',
    says: /must be an object with from and value, not a string$/,
  },
  {
    code: 'wrong_type',
    file: lines({ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }),
    field: 'messages[0].content',
    says: /must be a part of type "text": only text can be trained on$/,
  },
  {
    code: 'wrong_type',
    file: lines({ messages: [{ role: 'assistant', tool_calls: [{}] }] }),
    field: 'messages[0].content',
    says: /must hold objects with function\.name$/,
  },
  {
    code: 'empty_instruction',
    file: lines({ ...good, instruction: ' \n' }),
    field: 'instruction',
    says: 'Sample 0 (line 1): Empty instruction',
  },
  {
    code: 'empty_conversation',
    file: talk(),
    field: 'conversations',
    says: 'Sample 0 (line 1): "conversations" has no turns',
  },
  {
    code: 'unknown_role',
    file: talk(turn('humn', 'Hi'), turn('gpt', 'Hello')),
    field: 'conversations[0].from',
    says: /^Sample 0 \(line 1\): Unknown role "humn" in "conversations\[0\]" \(did you mean "human"\?\); known are system, developer, human,/,
  },
  {
    code: 'invalid_tools',
    file: lines({ conversations: [turn('human', 'Hi'), turn('gpt', 'Hello')], tools: '[{' }),
    field: 'tools',
    says: 'Sample 0 (line 1): "tools" is a string that is not JSON; it must hold an array of function descriptions',
  },
  {
    code: 'invalid_tools',
    file: lines({ conversations: [], tools: { name: 'f' } }),
    says: /must be an array of function descriptions, not an object$/,
  },
  {
    code: 'invalid_tools',
    file: lines({ conversations: [], tools: ['f'] }),
    says: /must hold objects: one function description each$/,
  },
  {
    code: 'invalid_tools',
    file: `{"conversations": [], "tools": [{"a": ${'['.repeat(90)}${']'.repeat(90)}}]}\n`,
    says: /is nested deeper than 64 levels$/,
  },
  {
    code: 'invalid_tools',
    file: '{"conversations": [], "tools": [{"a": 1e999}]}\n',
    says: /holds a number that is out of range$/,
  },
  {
    code: 'invalid_tools',
    file: '{"conversations": [], "tools": [{"a": "\\udc00"}]}\n',
    says: /holds half of a surrogate pair$/,
  },
  {
    code: 'invalid_unicode',
    file: '{"instruction": "Say \\ud83d to me", "output": "No."}\n',
    field: 'instruction',
    says: 'Sample 0 (line 1): "instruction" holds half of a surrogate pair (\\ud800–\\udfff), which is no character',
  },
  { code: 'unknown_key', file: lines({ ...good, id: 7 }), field: 'id', says: 'Sample 0: Unknown key "id" is ignored' },
  {
    code: 'unknown_key',
    file: talk({ ...turn('human', 'Hi'), mood: 0 }, turn('gpt', 'Hello')),
    field: 'mood',
    says: 'Sample 0: Unknown key "mood" in a turn is ignored',
  },
  ...[
    ['weight', 0.5, '0 or 1, not 0.5'],
    ['weight', true, '0 or 1, not a boolean'],
    ['train', 1, 'false or true, not 1'],
    ['training', 'no', 'false or true, not a string'],
  ].map(([key, value, what]) => ({
    code: 'wrong_type' as const,
    file: lines({
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello', [String(key)]: value },
      ],
    }),
    field: `messages[1].${key}`,
    says: `Sample 0 (line 1): "messages[1].${key}" must be ${what}`,
  })),
  {
    code: 'flag_ignored',
    file: talk({ ...turn('human', 'Hi'), train: true }, turn('gpt', 'Hello')),
    field: 'train',
    says: 'Sample 0: "train" of a user turn is ignored: only assistant turns are learned one by one',
  },
  {
    code: 'empty_output',
    file: lines({ ...good, output: '' }),
    field: 'output',
    says: 'Sample 0: Empty output: the model learns to say nothing',
  },
  {
    code: 'empty_output',
    file: lines({ prompt: 'Once', completion: ' ' }),
    field: 'completion',
    says: 'Sample 0: Empty output: the model learns to say nothing',
  },
  {
    code: 'missing_key',
    file: lines({ prompt: 'Once', response: 'upon' }),
    field: 'completion',
    says: 'Sample 0 (line 1): Missing "completion"; it has "response": rename it?',
  },
  {
    code: 'empty_turn',
    file: talk(turn('human', ''), turn('gpt', 'Hello')),
    field: 'conversations[0].value',
    says: 'Sample 0: Empty user turn in "conversations[0].value"',
  },
  // A conversation's course
  {
    code: 'no_assistant_turn',
    file: talk(turn('human', 'Hi')),
    says: 'Sample 0 (line 1): No assistant turn: there is nothing to learn from',
  },
  {
    code: 'starts_with_assistant',
    file: talk(turn('system', 'Be kind.'), turn('gpt', 'Hello'), turn('human', 'Hi'), turn('gpt', 'Hello')),
    field: 'conversations[1].value',
    says: 'Sample 0: Starts with an assistant turn: many chat templates want a user turn first',
  },
  {
    code: 'repeated_role',
    file: talk(turn('human', 'Hi'), turn('human', 'You?'), turn('gpt', 'Hello')),
    field: 'conversations[1].value',
    says: 'Sample 0: Two user turns in a row: many chat templates refuse it',
  },
  {
    code: 'late_system_turn',
    file: talk(turn('human', 'Hi'), turn('system', 'Be kind.'), turn('gpt', 'Hello')),
    field: 'conversations[1].value',
    says: 'Sample 0: A system turn that is not the first: many chat templates refuse it',
  },
  {
    code: 'tool_without_call',
    file: talk(turn('human', 'Hi'), turn('observation', '{}'), turn('gpt', 'Hello')),
    field: 'conversations[1].value',
    says: 'Sample 0: A tool turn that follows no assistant turn',
  },
  {
    code: 'ends_without_answer',
    file: talk(turn('human', 'Hi'), turn('gpt', 'Hello'), turn('human', 'Bye')),
    field: 'conversations[2].value',
    says: 'Sample 0: Ends with a user turn, which is not trained on',
  },
  {
    code: 'no_trained_turn',
    file: lines(...chats(1), { conversations: [turn('human', 'Hi'), { ...turn('gpt', 'Hello'), train: false }] }),
    says: 'Sample 1: No assistant turn is to be learned: all have train false or weight 0',
  },
  // Contents
  {
    code: 'short_instruction',
    file: lines(...alpacaRows(45), { instruction: 'Sort these', output: 'Done.' }),
    field: 'instruction',
    says: 'Sample 45: Very short instruction (2 words)',
  },
  {
    code: 'short_instruction',
    file: lines({ instruction: 'Sort', output: 'Done.' }),
    says: 'Sample 0: Very short instruction (1 word)',
  },
  {
    code: 'long_output',
    file: lines(...alpacaRows(128), { ...good, output: words(1523) }),
    field: 'output',
    says: 'Sample 128: Very long output (1523 words)',
  },
  {
    code: 'long_output',
    file: talk(turn('human', 'Hi'), turn('gpt', words(1001))),
    field: 'conversations[1].value',
    says: 'Sample 0: Very long output (1001 words)',
  },
  {
    code: 'mojibake',
    file: lines({ ...good, output: 'Un cafÃ©, sâ€™il vous plaÃ®t' }),
    field: 'output',
    says: 'Sample 0: "output" looks wrongly decoded ("Ã©"): the file was probably converted to UTF-8 twice',
  },
  {
    code: 'replacement_character',
    file: lines({ ...good, output: 'caf\ufffd' }),
    field: 'output',
    says: /^Sample 0: "output" holds U\+FFFD/,
  },
  {
    code: 'control_characters',
    file: lines({ ...good, output: 'a\0b' }),
    field: 'output',
    says: 'Sample 0: "output" holds NUL bytes',
  },
  {
    code: 'control_characters',
    file: lines({ ...good, output: 'a\x1b[0m' }),
    field: 'output',
    says: 'Sample 0: "output" holds control characters (U+001B)',
  },
  {
    code: 'duplicate_row',
    file: lines(good, ...alpacaRows(2), { input: '', ...good }),
    says: 'Sample 3: Same as sample 0',
  },
  {
    code: 'normalised_duplicate',
    file: lines(good, { ...good, instruction: ' name the three  primary colours.' }),
    says: 'Sample 1: Same as sample 0, letter case and blanks of what is asked aside',
  },
  {
    code: 'nothing_to_learn',
    file: talk(turn('human', 'Hi'), { ...turn('gpt', 'Hello'), train: false }),
    says: 'No row has an assistant turn that is to be learned: all have train false or weight 0, so nothing could be trained',
  },
  {
    code: 'nested_too_deep',
    file: `{"instruction": "x", "a": ${'['.repeat(40_000)}${']'.repeat(40_000)}}\n`,
    says: 'Sample 0 (line 1): The row is nested deeper than 1000 levels',
  },
  {
    code: 'row_too_large',
    file: `{"instruction": "x", "a": [${'[],'.repeat(1_000_001)}1]}\n`,
    says: 'Sample 0 (line 1): The row holds more than 1000000 objects and arrays',
  },
  {
    code: 'secret_key',
    file: lines({ ...good, output: `Set it to sk-${'a1B2'.repeat(10)} first.` }),
    field: 'output',
    says: 'Sample 0: "output" holds what looks like an API key ("sk-a…", 43 characters)',
  },
  {
    code: 'secret_key',
    file: lines({ ...good, input: 'id=AKIAIOSFODNN7EXAMPLE' }),
    field: 'input',
    says: 'Sample 0: "input" holds what looks like an API key ("AKIA…", 20 characters)',
  },
  {
    code: 'private_key',
    file: talk(turn('human', 'Hi'), turn('gpt', `-----BEGIN RSA PRIVATE KEY-----\n${'MIIEow4x'.repeat(8)}\n`)),
    field: 'conversations[1].value',
    says: 'Sample 0: "conversations[1].value" holds a private key',
  },
  {
    code: 'email_address',
    file: lines({ ...good, output: 'Write to jane.doe@company.co.uk.' }),
    field: 'output',
    says: 'Sample 0: "output" holds an e-mail address ("jane…", 22 characters)',
  },
  {
    code: 'phone_number',
    file: lines({ ...good, output: 'Call +1 (212) 736-5000 today.' }),
    field: 'output',
    says: 'Sample 0: "output" holds what looks like a phone number ("+1 (…", 17 characters)',
  },
  {
    code: 'card_number',
    file: lines({ ...good, output: 'Card: 4111 1111 1111 1111.' }),
    field: 'output',
    says: 'Sample 0: "output" holds what looks like the number of a payment card ("4111…", 19 characters)',
  },
  {
    code: 'duplicate_prompt',
    file: lines(good, { instruction: ' name the three  primary colours.', output: 'Cyan.' }),
    says: 'Sample 1: Same question as sample 0 (letter case and blanks aside), another answer',
  },
  {
    code: 'duplicates_unchecked',
    file: lines(...alpacaRows(12)),
    options: { maxSeen: 5 },
    says: 'Too many rows to look for duplicates among all of them',
  },
]
