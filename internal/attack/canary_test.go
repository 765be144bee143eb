package attack
