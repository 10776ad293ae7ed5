/** Every command with its flags. */
import type { JobState, Scope } from '@mlx-training/sdk'
import { Command, InvalidArgumentError, Option } from 'commander'
import { compare } from './commands/compare.ts'
import { doctor } from './commands/doctor.ts'
import { evaluate } from './commands/evaluate.ts'
import * as follow from './commands/follow.ts'
import { chat, generate } from './commands/generate.ts'
import * as jobs from './commands/jobs.ts'
import * as keys from './commands/keys.ts'
import * as library from './commands/library.ts'
import { serve } from './commands/serve.ts'
import { train } from './commands/train.ts'
import { validate } from './commands/validate.ts'
import { completion, SHELLS } from './completion.ts'
import { METHODS } from './recipe.ts'
import { say } from './screen/print.ts'
import { type GlobalOptions, type Session, sessionOf } from './session.ts'

/** Of a flag that may be given several times. */
const collected = (value: string, all: string[] = []) => [...all, value]

export function createProgram(version: string): Command {
  const program = new Command('mlx-training')
    .description('Fine-tunes language models on MLX, through the service on port 8200')
    .version(version)
    .option('--url <url>', 'the server (MLX_TRAINING_URL; default http://127.0.0.1:8200)')
    .option('--key <key>', 'the API key (MLX_TRAINING_API_KEY, or data/admin.key)')
    .option('--json', 'print what the server says, as JSON')
    .option('--no-color', 'no colours (NO_COLOR=1)')
    .configureHelp({ showGlobalOptions: true })
  const session = (): Session => sessionOf(program.opts<GlobalOptions>())
  // biome-ignore lint/suspicious/noExplicitAny: commander hands over what the declaration beside it says
  const add = (usage: string, what: string, work: (session: Session, ...given: any[]) => Promise<void>) =>
    program
      .command(usage)
      .description(what)
      .action((...given: unknown[]) => work(session(), ...given))

  program
    .command('serve')
    .description('start the service of this clone')
    .option('--port <port>', 'instead of 8200', whole)
    .option('--host <host>', 'instead of 127.0.0.1')
    .action(serve)

  add('train [recipe]', 'check the data, start a job and follow it; a recipe is YAML or JSON', train)
    .option('-n, --name <name>', 'of the experiment; made up when left out')
    .option('-m, --model <model>', 'a bundled or local model, a .gguf file, or a hub id')
    .option('-d, --data <data>', 'a file, or the id of an uploaded data set')
    .option('--validation <data>', 'held-out rows')
    .addOption(new Option('--method <method>', 'how to train').choices(METHODS))
    .option('--rank <rank>', 'of LoRA', whole)
    .option('--alpha <alpha>', 'of LoRA', number)
    .option('--epochs <epochs>', 'times through the data', whole)
    .option('--max-steps <steps>', 'end after so many steps', whole)
    .option('--lr <rate>', 'learning rate', number)
    .option('--batch-size <rows>', 'rows a step', whole)
    .option('--max-seq-length <tokens>', 'longer rows are cut', whole)
    .option('--resume-from <experiment>', 'begin with its weights')
    .option('--overwrite', 'replace an ended experiment of the same name')
    .option('--tag <tag>', 'a word to find it by again; may be given several times', collected)
    .option('--set <field=value>', 'any other field, e.g. lora.lora_dropout=0.05', collected)
    .option('--upload', 'send the data to the server instead of naming the file')
    .option('--no-check', 'start without the report on the data')
    .option('--dry-run', 'only measure how long it will take and whether it fits')
    .option('--detach', 'start and do not follow')
  add('list', 'all experiments, newest first', jobs.list)
    .addOption(new Option('--state <state>', 'only those').choices(STATES))
    .option('--tag <tag>', 'only those that have it')
  add('status <experiment>', 'where one stands', jobs.status)
  add('watch <experiment>', 'follow one to its end; Ctrl-C leaves it running', follow.watch)
  add('logs <experiment>', 'what happened so far, line by line', follow.logs).option(
    '-f, --follow',
    'and what happens next',
  )
  add('download <experiment>', 'what it has learned, as a tar of its adapter or model', jobs.download)
    .option('--step <step>', 'of this checkpoint; left out, the result or the newest so far', whole)
    .option('-o, --output <file>', 'instead of EXPERIMENT.tar; - is stdout')
  for (const [verb, what] of [
    ['stop', 'end them; what they learned is saved'],
    ['pause', 'save them and free their memory'],
    ['resume', 'go on with paused, stopped or failed ones'],
    ['delete', 'remove ended ones with their files'],
  ] as const)
    add(`${verb} <experiments...>`, what, (session, names: string[]) => jobs.command(session, verb, names))
  program
    .command('priority')
    .argument('<experiment>')
    .argument('<priority>', 'higher ones begin first', whole)
    .description('move a queued one within the queue')
    .action((name: string, priority: number) => jobs.prioritize(session(), name, priority))

  add('validate <file>', 'check a data set; with a model, tell what training would make of it', validate)
    .option('-m, --model <model>', 'count tokens as this model does')
    .option('--validation <file>', 'held-out rows, which are looked for among the others')
    .option('--max-seq-length <tokens>', 'longer rows are cut', whole)
    .option('--columns <names>', COLUMNS, pairs)
    .option('--tags <names>', TAGS, pairs)
    .option('--format <format>', 'instead of the one that is detected')
    .option('--mask <row>', 'show which tokens of this row (from 0) are trained', whole)
  for (const [usage, what, work] of [
    ['generate <prompt>', 'one answer; - reads the prompt from stdin', generate],
    ['chat', 'talk; /model changes the model, /base shows its base beside it', chat],
  ] as const)
    add(usage, what, work)
      .option('-m, --model <model>', 'e.g. fine-tuned/NAME; left out, the bundled one')
      .option('--system <text>', 'a system turn')
      .option('--temperature <number>', '0 is the same each time', number)
      .option('--max-tokens <tokens>', 'at most', whole)
      .option('--seed <seed>', 'for the same dice', whole)
  add('compare <prompt>', 'what several models answer, with time, tokens and scores', compare)
    .requiredOption('-m, --models <models...>', 'e.g. fine-tuned/NAME SmolLM2-135M-Instruct')
    .option('--system <text>', 'a system turn')
    .option('--reference <text>', 'a good answer, to score by')
    .option('--max-tokens <tokens>', 'at most', whole)
  add('evaluate [data]', 'models over held-out rows: loss, accuracy, scored answers; an id shows one again', evaluate)
    .option('-m, --models <models...>', 'the first is the one to beat, e.g. SmolLM2-135M-Instruct fine-tuned/NAME')
    .option('--samples <rows>', 'only so many, chosen by --seed', whole)
    .option('--seed <seed>', 'of that choice', whole)
    .option('--held-out <share>', 'only what a training with this validation_split holds out', number)
    .option('--generate', 'also let them answer rows, and score the answers')
    .option('--generate-samples <rows>', 'so many', whole)
    .option('--max-tokens <tokens>', 'of an answer', whole)
    .option('--max-seq-length <tokens>', 'longer rows are cut', whole)
    .option('--batch-size <rows>', 'at a time', whole)
    .option('--columns <names>', COLUMNS, pairs)
    .option('--tags <names>', TAGS, pairs)
    .option('--format <format>', 'instead of the one that is detected')
    .option('--upload', 'send the data to the server instead of naming the file')
    .option('--rows', 'also show rows that are worth looking at')
    .option('--detach', 'start and do not follow')
    .option('--cancel', 'end the evaluation of this id')
  add('models', 'what is here to train and to ask', library.models)

  const datasets = program.command('datasets').description('uploaded data sets')
  const part = (usage: string, what: string) => datasets.command(usage).description(what)
  part('list', 'all, newest first').action(() => library.datasets(session()))
  part('upload <file>', 'send one, and see its report')
    .option('--name <name>', 'instead of the file’s')
    .option('--columns <names>', COLUMNS, pairs)
    .option('--tags <names>', TAGS, pairs)
    .option('--format <format>', 'instead of the one that is detected')
    .action((file: string, options: object) => library.upload(session(), file, options))
  part('show <id>', 'its report').action((id: string) => library.show(session(), id))
  part('rows <id>', 'its rows')
    .option('--offset <row>', 'from this one on', whole)
    .option('--limit <rows>', 'so many', whole)
    .option('--issues', 'only those with findings')
    .action((id: string, options: object) => library.rows(session(), id, options))
  part('download <id> <file>', 'the file as it was uploaded; - writes it to stdout').action(
    (id: string, file: string) => library.download(session(), id, file),
  )
  part('split <id>', 'two of one, for training and validation')
    .option('--share <share>', 'of the rows, for validation', number, 0.1)
    .action((id: string, options: { share: number }) => library.split(session(), id, options))
  part('clean <id>', 'a new one with repairs')
    .requiredOption('--repairs <names>', 'separated by commas, e.g. trim,drop_duplicates', (names: string) =>
      names.split(','),
    )
    .option('--format <format>', 'what the repair "convert" makes of every row')
    .option('--dry-run', 'only tell what would be done')
    .action((id: string, options: library.CleanOptions) => library.clean(session(), id, options))
  part('delete <ids...>', 'remove').action((ids: string[]) => library.remove(session(), ids))
  alone(datasets, () => library.datasets(session()))

  const apiKeys = program
    .command('keys')
    .description('API keys of the service; needs the admin key, or one with the scope admin')
  apiKeys
    .command('list')
    .description('all that are not revoked')
    .action(() => keys.list(session()))
  apiKeys
    .command('create <name>')
    .description('make one; it is shown once, alone on stdout')
    .requiredOption('--scopes <scopes>', `separated by commas: ${SCOPES.join(', ')}`, scopes)
    .option('--expires <when>', '30d, 12h, or a date such as 2027-01-31; never when left out')
    .action((name: string, options: { scopes: Scope[]; expires?: string }) => keys.create(session(), name, options))
  apiKeys
    .command('revoke <keys...>')
    .description('end them at once, by id or name')
    .action((given: string[]) => keys.revoke(session(), given))
  alone(apiKeys, () => keys.list(session()))

  add('doctor', 'what works here, what does not, and how to mend it', doctor)
  program
    .command('completion')
    .addArgument(program.createArgument('<shell>', SHELLS.join(', ')))
    .description('a script for your shell: eval "$(mlx-training completion bash)"')
    .action((shell: string) => say(completion(program, shell)))
  return program
}

/** What a command with commands of its own does without one; another word is none of them. */
function alone(group: Command, work: () => Promise<void>): void {
  group.allowExcessArguments().action(async () => {
    const [word] = group.args
    if (word !== undefined)
      group.error(
        `unknown command '${group.name()} ${word}'. There are ${group.commands.map((one) => one.name()).join(', ')}`,
      )
    await work()
  })
}

const COLUMNS = 'the file’s names for its columns, e.g. prompt=question,response=answer'
const TAGS = 'and for keys and roles of its turns, e.g. role_tag=speaker,user_tag=customer'

function pairs(text: string): Record<string, string> {
  const parts = text.split(',').map((part) => part.split('='))
  if (parts.some((part) => part.length !== 2)) throw new InvalidArgumentError('Write name=name,name=name.')
  return Object.fromEntries(parts) as Record<string, string>
}

/** As the contract has them, which the SDK brings as types alone. */
const STATES = Object.keys({
  queued: 0,
  preparing: 0,
  running: 0,
  paused: 0,
  stopping: 0,
  stopped: 0,
  completed: 0,
  failed: 0,
} satisfies Record<JobState, 0>)
const SCOPES = ['read', 'train', 'generate', 'admin'] as const satisfies readonly Scope[]

function scopes(text: string): Scope[] {
  const given = text.split(',').map((one) => one.trim())
  const wrong = given.find((one) => !(SCOPES as readonly string[]).includes(one))
  if (wrong !== undefined) throw new InvalidArgumentError(`"${wrong}" is none of ${SCOPES.join(', ')}.`)
  return given as Scope[]
}

function whole(text: string): number {
  if (!/^-?\d{1,15}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(text)
}

function number(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.')
  return value
}
