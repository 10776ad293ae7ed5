/** Made by build-time.ts. */
declare module 'virtual:start' {
  const schema: import('./pages/new-run/schema.ts').JsonSchema
  export default schema
}
declare module 'virtual:recipes' {
  const recipes: readonly { id: string; about: string; request: Record<string, unknown> }[]
  export default recipes
}
