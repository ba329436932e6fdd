"""What every model is: modules, forward, inputs run by a budget of tokens, folders and the Hub, pools, adapters, int8."""
