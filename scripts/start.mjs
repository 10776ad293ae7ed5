// npm start: sets up what is missing, then serves. Without Python the server still starts and says what is missing.
import { fail } from './lib.mjs'
import { setup } from './setup.mjs'

await setup({ engine: 'optional' }).catch(fail)
const { main } = await import('../packages/server/dist/main.js')
await main()
